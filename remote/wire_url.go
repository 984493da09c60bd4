package remote

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"

	"github.com/go-partd/partd/internal/base/textfmt"
)

type address struct {
	network, address string
	namespace        string
	secure           bool // the connection uses TLS
}

const usage = "write tcp://HOST:PORT, tls://HOST:PORT, optionally with /NAMESPACE, or ipc:///PATH"

func parseURL(raw string) (address, error) {
	scheme, rest, _ := strings.Cut(raw, "://")
	switch scheme {
	case "tcp", "tls":
		rest, namespace, hasNamespace := strings.Cut(rest, "/")
		host, port, err := net.SplitHostPort(rest)
		if err != nil || port == "" || strings.ContainsAny(rest, "?#@") {
			return address{}, fmt.Errorf("address %q: %s", textfmt.RedactURL(raw), usage)
		}
		if hasNamespace && CheckNamespace(namespace) != nil { // do not return its error, which quotes the text: the text could be a secret
			return address{}, fmt.Errorf("address %q: the text after the port is not %s: %s", textfmt.RedactURL(raw), namespaceRule, usage)
		}
		if host == "*" { // in ZeroMQ, * means all interfaces
			host = ""
		}
		return address{"tcp", net.JoinHostPort(host, port), namespace, scheme == "tls"}, nil
	case "ipc":
		path, err := url.PathUnescape(rest)
		if err != nil || path == "" || strings.ContainsRune(path, 0) {
			return address{}, fmt.Errorf("address %q: write ipc:///PATH", textfmt.RedactURL(raw))
		}
		return address{network: "unix", address: path}, nil
	}
	return address{}, fmt.Errorf("address %q: %s", textfmt.RedactURL(raw), usage)
}

// CheckURL returns an error if rawURL is not the URL of a server.
func CheckURL(rawURL string) error {
	_, err := parseURL(rawURL)
	return err
}

var namespacePattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

const namespaceRule = "name of a namespace: 1 to 64 letters, digits, '-', '_' and '.', but neither . nor .."

// CheckNamespace returns an error if name is not valid for a namespace.
func CheckNamespace(name string) error {
	if !namespacePattern.MatchString(name) || name == "." || name == ".." {
		return fmt.Errorf("namespace %q: not a %s", truncate(name), namespaceRule)
	}
	return nil
}

// URL returns the URL at which clients reach a listener's address.
func URL(a net.Addr) string {
	if a.Network() == "unix" {
		return "ipc://" + strings.NewReplacer("%", "%25", "?", "%3F").Replace(a.String())
	}
	return a.Network() + "://" + a.String()
}

// IsExposed reports whether other machines can reach an address.
func IsExposed(a net.Addr) bool {
	if a.Network() == "unix" {
		return false
	}
	host, _, err := net.SplitHostPort(a.String())
	ip := net.ParseIP(host)
	return err != nil || ip == nil || !ip.IsLoopback()
}

// maxErrorText is the maximum length of an error's text on the wire, in bytes.
const maxErrorText = 4 << 10

func truncate(s string) string {
	if len(s) > maxErrorText {
		return s[:maxErrorText] + "…"
	}
	return s
}
