package remote

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
)

// ListenTLS listens at a URL, tls://HOST:PORT. It accepts TLS 1.3 or later. The
// server performs the handshake of each connection, within its HandshakeTimeout.
func ListenTLS(rawURL string, config *tls.Config) (net.Listener, error) {
	a, err := parseURL(rawURL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("remote: %w", err)
	case !a.secure || a.namespace != "":
		return nil, fmt.Errorf("remote: listen on %s: write tls://HOST:PORT", rawURL)
	case config == nil:
		return nil, errors.New("remote: TLS needs a certificate")
	}
	l, err := net.Listen("tcp", a.address)
	if err != nil {
		return nil, fmt.Errorf("remote: %w", err)
	}
	return tlsListener{l, secured(config)}, nil
}

// secured returns a configuration of both sides for what is known to be fast and
// safe.
func secured(config *tls.Config) *tls.Config {
	config = config.Clone()
	config.MinVersion = tls.VersionTLS13
	config.DynamicRecordSizingDisabled = true // whole messages, not the beginning of a page
	if choose := config.GetConfigForClient; choose != nil {
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := choose(hello)
			if err == nil && chosen != nil {
				chosen = chosen.Clone()
				chosen.MinVersion, chosen.DynamicRecordSizingDisabled = tls.VersionTLS13, true
			}
			return chosen, err
		}
	}
	return config
}

type tlsListener struct {
	net.Listener
	config *tls.Config
}

func (l tlsListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return tls.Server(nc, l.config), nil
}

func (l tlsListener) Addr() net.Addr { return tlsAddr{l.Listener.Addr()} }

type tlsAddr struct{ net.Addr }

func (tlsAddr) Network() string { return "tls" }

// hangUp closes a connection without waiting for a peer that may not read.
func hangUp(nc net.Conn) {
	if s, ok := nc.(*tls.Conn); ok {
		nc = s.NetConn() // TLS would send its goodbye first
	}
	_ = nc.Close() // nothing is expected of it any more
}
