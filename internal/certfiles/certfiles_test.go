package certfiles

import (
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/testcert"
)

// TestPeers has two nodes that show each other certificates, and new ones after they
// were replaced, on both sides. A node without one is kept out.
func TestPeers(t *testing.T) {
	ours, err := testcert.New(t.TempDir(), "ours")
	if err != nil {
		t.Fatal(err)
	}
	load := func(name string) *Certificates {
		pair, err := ours.Issue(name, time.Hour, "localhost")
		if err != nil {
			t.Fatal(err)
		}
		c, err := Load(Options{Cert: pair.Cert, Key: pair.Key, ClientCA: ours.File, NeedClient: true, MinVersion: tls.VersionTLS12})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a, b := load("a"), load("b")
	server, client := a.PeerConfig(), b.PeerConfig()
	client.ServerName = "localhost"
	if server.ClientAuth != tls.RequireAndVerifyClientCert {
		t.Errorf("client certificates: %v", server.ClientAuth)
	}
	shown := func(client *tls.Config) (byServer, byClient string, err error) {
		left, right := net.Pipe()
		s, c := tls.Server(left, server), tls.Client(right, client)
		deadline := time.Now().Add(10 * time.Second)
		_, _ = left.SetDeadline(deadline), right.SetDeadline(deadline)
		defer left.Close()
		defer right.Close()
		done := make(chan error, 1)
		go func() { done <- c.Handshake() }()
		if err := errors.Join(s.Handshake(), <-done); err != nil {
			return "", "", err
		}
		return string(c.ConnectionState().PeerCertificates[0].Raw), string(s.ConnectionState().PeerCertificates[0].Raw), nil
	}
	byA, byB, err := shown(client)
	if err != nil {
		t.Fatal(err)
	}
	load("a") // in place of the files from before
	load("b")
	a.Reload()
	b.Reload()
	nowA, nowB, err := shown(client)
	if err != nil || nowA == byA || nowB == byB {
		t.Errorf("other certificates: %v and %v, %v", nowA != byA, nowB != byB, err)
	}
	if _, _, err := shown(&tls.Config{RootCAs: ours.Pool, ServerName: "localhost", MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("one without a certificate gets in")
	}
}
