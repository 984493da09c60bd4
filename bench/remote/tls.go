package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/remote"
)

// overTLS returns a function that runs a load over TLS. The function starts a TLS server in this
// process. It ignores its URL argument, because the server at that URL does not use TLS.
func overTLS(load func(context.Context, string) (float64, error)) func(context.Context, string) (float64, error) {
	return func(ctx context.Context, _ string) (rate float64, err error) {
		dir, err := os.MkdirTemp("", "partd-bench-*")
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		ca, err := nettest.NewAuthority(dir, "bench")
		if err != nil {
			return 0, err
		}
		pair, err := ca.Issue("server", time.Hour, "127.0.0.1")
		if err != nil {
			return 0, err
		}
		s, err := remote.NewServer(partd.NewDict(), nil)
		if err != nil {
			return 0, err
		}
		var l net.Listener
		if l, err = remote.ListenTLS("tls://127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair.TLS}}); err != nil {
			return 0, err
		}
		go func() { _ = s.Serve(ctx, l) }() // until Shutdown
		defer func() { err = errors.Join(err, s.Shutdown(ctx)) }()
		return load(context.WithValue(ctx, tlsConfigKey{}, &tls.Config{RootCAs: ca.Pool}), remote.URL(l.Addr()))
	}
}

type tlsConfigKey struct{}

func dial(ctx context.Context, url string) (client, error) {
	o := &remote.ClientOptions{}
	if strings.HasPrefix(url, "tls://") {
		o.TLS, _ = ctx.Value(tlsConfigKey{}).(*tls.Config)
	}
	return remote.Dial(ctx, url, o)
}

type client interface {
	partd.Partd
	partd.Statter
	partd.Flusher
	io.Closer
}
