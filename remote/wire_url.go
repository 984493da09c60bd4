package remote

import (
	"fmt"
	"net"
	"net/url"
	"strings"
)

// address is a URL taken apart.
type address struct{ network, address string }

// parseURL takes tcp://HOST:PORT or ipc:///PATH apart.
func parseURL(raw string) (address, error) {
	if rest, ok := strings.CutPrefix(raw, "tcp://"); ok {
		host, port, err := net.SplitHostPort(rest)
		if err != nil || port == "" || strings.ContainsAny(rest, "/?#@") {
			return address{}, fmt.Errorf("address %q: write tcp://HOST:PORT", raw)
		}
		if host == "*" { // as ZeroMQ has it
			host = ""
		}
		return address{"tcp", net.JoinHostPort(host, port)}, nil
	}
	if rest, ok := strings.CutPrefix(raw, "ipc://"); ok {
		path, err := url.PathUnescape(rest)
		if err != nil || path == "" || strings.ContainsRune(path, 0) {
			return address{}, fmt.Errorf("address %q: write ipc:///PATH", raw)
		}
		return address{"unix", path}, nil
	}
	return address{}, fmt.Errorf("address %q: write tcp://HOST:PORT or ipc:///PATH", raw)
}

// CheckURL returns what is wrong with the URL of a server.
func CheckURL(rawURL string) error {
	_, err := parseURL(rawURL)
	return err
}

// URL returns the URL of a listener's address, as clients are given it.
func URL(a net.Addr) string {
	if a.Network() == "unix" {
		return "ipc://" + strings.NewReplacer("%", "%25", "?", "%3F").Replace(a.String())
	}
	return "tcp://" + a.String()
}
