package servercli

import (
	"errors"
	"net"
	"strings"
	"sync"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/remote"
)

type listener struct {
	net.Listener
	opts remote.ServeOptions
}

// acceptNotifier is a listener that closes the channel begun at the first Accept. serveAll then
// prints "ready".
type acceptNotifier struct {
	net.Listener
	once  sync.Once
	begun chan struct{}
}

func (a *acceptNotifier) Accept() (net.Conn, error) {
	a.once.Do(func() { close(a.begun) })
	return a.Listener.Accept()
}

// listen opens all addresses, or none if one fails.
func listen(c *config, a *access) ([]listener, error) {
	var listeners []listener
	fail := func(err error) ([]listener, error) {
		for _, l := range listeners {
			err = errors.Join(err, l.Close())
		}
		return nil, err
	}
	for _, text := range c.listen {
		url, namespace, hasNamespace := strings.Cut(text, "=")
		if hasNamespace {
			if err := remote.CheckNamespace(namespace); err != nil {
				return fail(cliutil.Usagef("--listen %q: %w", text, err))
			}
		}
		err := c.checkAddress(url)
		if err != nil {
			return fail(err)
		}
		var l net.Listener
		if isTLS(url) {
			l, err = remote.ListenTLS(url, a.certificates.ServerConfig())
		} else {
			l, err = remote.Listen(url)
		}
		if err != nil {
			return fail(err)
		}
		listeners = append(listeners, listener{l, remote.ServeOptions{Namespace: namespace, Trusted: c.trust && isSocket(url)}})
		if remote.IsExposed(l.Addr()) && !c.insecure && c.exposure(url) != "" {
			return fail(c.exposedError(url))
		}
	}
	return listeners, nil
}

// checkAddress checks the syntax of an address before it is opened. Unless access from other
// machines is safe or allowed, it also checks that they cannot reach the address. It does not
// resolve host names; for these, listen checks the opened address.
func (c *config) checkAddress(url string) error {
	if isSocket(url) {
		return nil
	}
	scheme, rest, _ := strings.Cut(url, "://")
	if scheme != "tcp" && scheme != "tls" {
		return cliutil.Usagef("--listen %q: write tcp://HOST:PORT, tls://HOST:PORT or ipc:///PATH, with =NAME after it for one namespace", url)
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil || port == "" {
		return cliutil.Usagef("--listen %q: write %s://HOST:PORT, with port 0 for a free one", url, scheme)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return cliutil.Usagef("--listen %q: %q is not a port", url, port)
	}
	ip := net.ParseIP(host)
	isWildcard := host == "" || host == "*"
	if !c.insecure && c.exposure(url) != "" && (isWildcard || ip != nil && !ip.IsLoopback()) {
		return c.exposedError(url)
	}
	return nil
}

// exposure describes what other machines could do through an address. It returns "" if the address
// is protected by TLS and users.
func (c *config) exposure(url string) string {
	switch {
	case isTLS(url) && c.hasUsers():
		return ""
	case c.hasUsers():
		return "others can read tokens and data in transit to this address"
	}
	return "anyone who can reach this address may read, change and remove everything"
}

func (c *config) exposedError(url string) error {
	if c.hasUsers() {
		return cliutil.Usagef("--listen %s can be reached from other machines, and without TLS others can read the tokens in transit. "+
			"Listen on tls://HOST:PORT with --tls-cert and --tls-key, or give --insecure if nobody can eavesdrop on the network", url)
	}
	return cliutil.Usagef("--listen %s can be reached from other machines, and there is no authentication: anyone who connects could read, "+
		"change and remove everything. Listen on tls://HOST:PORT with --tokens-file or --tls-client-ca; or on tcp://127.0.0.1:PORT or ipc:///PATH, "+
		"with a tunnel for others (ssh -L); or give --insecure if only authorized people can reach the network", url)
}
