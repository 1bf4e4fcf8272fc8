// Package ext has the types that Traefik's own module of this name leaves empty, and that is published with no version.
package ext

// HTTP is a part of the configuration that has nothing here.
type HTTP struct{}

// Router is a part of a router that has nothing here.
type Router struct{}
