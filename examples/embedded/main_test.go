package main

import (
	"context"
	"crypto/tls"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/logstore"
	"github.com/go-partd/partd/remote"
)

// TestServerWithToken checks that a client with the token can use the store, that a client
// without it cannot, and that appended data remains after the program has ended.
func TestServerWithToken(t *testing.T) {
	authority, err := nettest.NewAuthority(t.TempDir(), "test")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.Issue("server", time.Hour, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "store")
	ctx, stop := context.WithCancel(t.Context())
	addresses, ended := make(chan net.Addr, 1), make(chan error, 1)
	go func() {
		ended <- run(ctx, "tls://127.0.0.1:0", pair.Cert, pair.Key, dir, "a-long-secret-0123456789", func(a net.Addr) { addresses <- a })
	}()
	var url string
	select {
	case err := <-ended:
		t.Fatal(err)
	case a := <-addresses:
		url = remote.URL(a)
	}
	trust := &tls.Config{RootCAs: authority.Pool}
	if c, err := remote.Dial(t.Context(), url, &remote.ClientOptions{Token: "another-secret-0123456789", TLS: trust}); err == nil {
		t.Error("Dial with a wrong token succeeded", c.Close())
	}
	c, err := remote.Dial(t.Context(), url, &remote.ClientOptions{Token: "a-long-secret-0123456789", TLS: trust})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Append(t.Context(), partd.Entry{Key: "words", Value: []byte("oak")}); err != nil {
		t.Error(err)
	}
	if err := c.Delete(t.Context(), "words"); err == nil {
		t.Error("Delete succeeded, but the user lacks the right to delete")
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	s, err := logstore.Open(dir, &logstore.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	values, err := s.Get(t.Context(), "words")
	if err != nil || string(values[0]) != "oak" {
		t.Errorf("Get(words) = %q, %v, want oak", values, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
