package stores

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/server/certfiles"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/shards"
)

func namespaceKind() kind { return kind{"NAME", remote.CheckNamespace} }

// splitServers returns the names and URLs of the servers in an address. The address may list
// several servers, as HOST:PORT separated by commas, with a common namespace at the end.
func splitServers(scheme, address string) (names, urls []string) {
	hosts, namespace, hasNamespace := strings.Cut(strings.TrimPrefix(address, "//"), "/")
	names = strings.Split(hosts, ",")
	if scheme == "ipc" || len(names) == 1 {
		return []string{address}, []string{scheme + ":" + address}
	}
	for _, name := range names {
		url := scheme + "://" + name
		if hasNamespace {
			url += "/" + namespace
		}
		urls = append(urls, url)
	}
	return names, urls
}

// dialer returns a function that connects to the server with a given name.
func dialer(names, urls []string, opts *remote.ClientOptions) func(ctx context.Context, name string) (partd.Partd, error) {
	return func(ctx context.Context, name string) (partd.Partd, error) {
		return remote.Dial(ctx, urls[slices.Index(names, name)], opts)
	}
}

// Adopt makes the other servers of a URL accept a server that has lost its store and was restarted
// with an empty store; see [shards.Adopt]. server is the HOST:PORT of the restarted server, as
// written in the URL.
func (t *Set) Adopt(ctx context.Context, url, server string) error {
	u, err := t.parse(url, nil)
	if err != nil {
		return &URLError{url, err}
	}
	names, urls := splitServers(u.store.name, u.location)
	if !u.store.isRemote || len(names) == 1 || !slices.Contains(names, server) {
		return &URLError{url, fmt.Errorf("adopting needs a URL with several servers, and %s must be one of them", server)}
	}
	opts, err := clientOptions(u.store.name, u.storeOptions)
	if err != nil {
		return err
	}
	return shards.Adopt(ctx, names, dialer(names, urls, opts), server)
}

func clientOptions(scheme string, o options) (*remote.ClientOptions, error) {
	c := &remote.ClientOptions{Namespace: o.text("namespace", ""), InsecureToken: o.isTrue("insecure"), Token: os.Getenv("PARTD_TOKEN")}
	if name := o.text("token-file", ""); name != "" {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		c.Token = strings.TrimSpace(string(text))
		if c.Token == "" {
			return nil, fmt.Errorf("token-file=%s: the file is empty", name)
		}
	}
	if scheme != "tls" {
		return c, nil
	}
	c.TLS = new(tls.Config)
	if name := o.text("ca", ""); name != "" {
		var err error
		c.TLS.RootCAs, err = certfiles.ReadAuthorities(name)
		if err != nil {
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
