// Package dns stands for lego's list of DNS providers, whose modules are a hundred: some have no licence in them.
package dns

import (
	"fmt"

	"github.com/go-acme/lego/v5/challenge"
)

// NewDNSChallengeProviderByName knows no provider, so that a certificate can't be asked for by a DNS challenge.
func NewDNSChallengeProviderByName(name string) (challenge.Provider, error) {
	return nil, fmt.Errorf("this build of Traefik has no DNS provider, and so no %s", name)
}
