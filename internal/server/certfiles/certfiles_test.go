package certfiles

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
)

// TestPeers checks that two nodes accept each other's certificates, before and after the files of
// both are replaced, and that a node without a certificate is rejected.
func TestPeers(t *testing.T) {
	ca := must.Get(nettest.NewAuthority(t.TempDir(), "ours"))(t)
	load := func(name string) *Certificates {
		pair := must.Get(ca.Issue(name, time.Hour, "localhost"))(t)
		return must.Get(Load(Options{Cert: pair.Cert, Key: pair.Key, ClientCA: ca.File, NeedClient: true, MinVersion: tls.VersionTLS12}))(t)
	}
	a, b := load("a"), load("b")
	server, client := a.PeerConfig(), b.PeerConfig()
	client.ServerName = "localhost"
	if server.ClientAuth != tls.RequireAndVerifyClientCert {
		t.Errorf("ClientAuth = %v, want RequireAndVerifyClientCert", server.ClientAuth)
	}
	handshake := func(client *tls.Config) (byServer, byClient string, err error) {
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
	byA, byB, err := handshake(client)
	must.Do(t, err)
	load("a") // replaces the files
	load("b")
	a.Reload()
	b.Reload()
	nowA, nowB, err := handshake(client)
	if err != nil || nowA == byA || nowB == byB {
		t.Errorf("after Reload, the certificates are new: %v and %v, want true and true; error %v", nowA != byA, nowB != byB, err)
	}
	if _, _, err := handshake(&tls.Config{RootCAs: ca.Pool, ServerName: "localhost", MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("the server accepted a node without a certificate")
	}
}

// TestReloadOnChange checks that a server uses changed files without a call of Reload, and keeps its certificate if a
// changed file cannot be used.
func TestReloadOnChange(t *testing.T) {
	ca := must.Get(nettest.NewAuthority(t.TempDir(), "ours"))(t)
	pair := must.Get(ca.Issue("a", time.Hour, "localhost"))(t)
	c, err := Load(Options{Cert: pair.Cert, Key: pair.Key, MinVersion: tls.VersionTLS12})
	must.Do(t, err)
	current := func() string {
		t.Helper()
		c.checkedAt = time.Time{} // as if checkInterval had passed
		config := must.Get(c.ServerConfig().GetConfigForClient(nil))(t)
		return string(config.Certificates[0].Certificate[0])
	}
	first := current()
	_, err = ca.Issue("a", 2*time.Hour, "localhost") // replaces the files
	must.Do(t, err)
	second := current()
	if second == first {
		t.Error("the server uses the certificate of a replaced file")
	}
	for _, name := range []string{pair.Cert, pair.Key} {
		valid := must.Get(os.ReadFile(name))(t)
		for _, invalid := range []string{"no certificate", ""} {
			must.Do(t, os.WriteFile(name, []byte(invalid), 0o600))
			if current() != second {
				t.Errorf("with the text %q in %s, the server does not use the last valid certificate", invalid, name)
			}
		}
		must.Do(t, os.WriteFile(name, valid, 0o600))
	}
	must.Do(t, os.Remove(pair.Cert))
	if current() != second {
		t.Error("without the file, the server does not use the last valid certificate")
	}
}

// TestReloadWithSameTimes checks that a server notices replaced files with the same sizes and times, which a coarse
// clock can cause.
func TestReloadWithSameTimes(t *testing.T) {
	ca := must.Get(nettest.NewAuthority(t.TempDir(), "ours"))(t)
	pair := must.Get(ca.Issue("a", time.Hour, "localhost"))(t)
	settle := func() {
		t.Helper()
		for _, name := range []string{pair.Cert, pair.Key} {
			text := must.Get(os.ReadFile(name))(t)
			padded := append(text, bytes.Repeat([]byte("\n"), 1<<14-len(text))...)
			must.Do(t, os.WriteFile(name, padded, 0o600))
			must.Do(t, os.Chtimes(name, time.Unix(1, 0), time.Unix(1, 0)))
		}
	}
	settle()
	c := must.Get(Load(Options{Cert: pair.Cert, Key: pair.Key, MinVersion: tls.VersionTLS12}))(t)
	first := c.current()
	_ = must.Get(ca.Issue("a", 2*time.Hour, "localhost"))(t) // replaces the files
	settle()
	c.checkedAt = time.Time{} // as if checkInterval had passed
	if c.current() == first {
		t.Error("the server uses the certificate of a replaced file")
	}
}
