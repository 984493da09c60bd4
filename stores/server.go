package stores

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/certfiles"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/shards"
)

func namespace() kind { return kind{"NAME", remote.CheckNamespace} }

// servers returns the names of the servers in an address, and the URL of each: several
// hosts with their ports, with commas between them, have one scheme and one namespace.
func servers(scheme, address string) (names, urls []string) {
	hosts, namespace, named := strings.Cut(strings.TrimPrefix(address, "//"), "/")
	names = strings.Split(hosts, ",")
	if scheme == "ipc" || len(names) == 1 {
		return []string{address}, []string{scheme + ":" + address}
	}
	for _, name := range names {
		url := scheme + "://" + name
		if named {
			url += "/" + namespace
		}
		urls = append(urls, url)
	}
	return names, urls
}

func dialOne(names, urls []string, opts *remote.ClientOptions) func(ctx context.Context, name string) (partd.Partd, error) {
	return func(ctx context.Context, name string) (partd.Partd, error) {
		return remote.Dial(ctx, urls[slices.Index(names, name)], opts)
	}
}

// Adopt makes the other servers of a URL accept the empty store of one server in place of
// the one that they know, whose keys are gone: see [shards.Adopt]. The server is given by
// its HOST:PORT, as written in the URL.
func (t *Set) Adopt(ctx context.Context, url, server string) error {
	u, err := t.parse(url, nil)
	if err != nil {
		return &URLError{url, err}
	}
	names, urls := servers(u.store.name, u.location)
	if !u.store.remote || len(names) == 1 || !slices.Contains(names, server) {
		return &URLError{url, fmt.Errorf("%s is not one of several servers in it", server)}
	}
	opts, err := clientOptions(u.store.name, u.storeOptions)
	if err != nil {
		return err
	}
	return shards.Adopt(ctx, names, dialOne(names, urls, opts), server)
}

// clientOptions are what a URL says of a client of a server.
func clientOptions(scheme string, o options) (*remote.ClientOptions, error) {
	c := &remote.ClientOptions{Namespace: o.text("namespace", ""), InsecureToken: o.truth("insecure"), Token: os.Getenv("PARTD_TOKEN")}
	if name := o.text("token-file", ""); name != "" {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if c.Token = strings.TrimSpace(string(text)); c.Token == "" {
			return nil, fmt.Errorf("token-file=%s: it is empty", name)
		}
	}
	if scheme != "tls" {
		return c, nil
	}
	c.TLS = new(tls.Config)
	if name := o.text("ca", ""); name != "" {
		var err error
		if c.TLS.RootCAs, err = certfiles.Authorities(name); err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
	}
	if cert, key := o.text("cert", ""), o.text("key", ""); cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("cert=%s, key=%s: %w", cert, key, err)
		}
		c.TLS.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
