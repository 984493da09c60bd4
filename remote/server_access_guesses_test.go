package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/server/ratelimit"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestGuessesFromSameAddress checks that clients from an address with very many wrong guesses are
// still admitted if they were admitted before or have a certificate.
func TestGuessesFromSameAddress(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	ca, pair := authority(t, "ours")
	reader := must.Get(ca.Issue("reader", time.Hour))(t)
	u := &users{rights: map[string]map[string]Rights{"good": {"": AllRights}, "cert:reader": {"": AllRights}}}
	s, url := serve(t, partd.NewDict(), &ServerOptions{Authorizer: u})
	l := must.Get(ListenTLS("tls://127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair.TLS}, ClientCAs: ca.Pool, ClientAuth: tls.VerifyClientCertIfGiven}))(t)
	go s.Serve(ctx, l)
	must.Do(t, dial(t, url, &ClientOptions{Token: "good"}).Close())
	for range 10 * ratelimit.Burst {
		s.logins.RecordFailure("127.0.0.1")
	}
	if _, err := Dial(ctx, url, &ClientOptions{Token: "evil"}); !errors.Is(err, ErrBusy) {
		t.Errorf("Dial with another wrong guess = %v, want ErrBusy", err)
	}
	must.Do(t, dial(t, url, &ClientOptions{Token: "good"}).Close())
	must.Do(t, dial(t, URL(l.Addr()), &ClientOptions{TLS: &tls.Config{RootCAs: ca.Pool, Certificates: []tls.Certificate{reader.TLS}}}).Close())
}

// TestRefusalIsLoggedOnce checks that a refused request and a refused client are logged with one line each.
func TestRefusalIsLoggedOnce(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	log := &safeBuffer{}
	u := &users{rights: map[string]map[string]Rights{"reader": {"": RightRead}}}
	_, url := serve(t, partd.NewDict(), &ServerOptions{Authorizer: u, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err := dial(t, url, &ClientOptions{Token: "reader"}).Delete(ctx, "k"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Delete without the right = %v, want ErrPermission", err)
	}
	if _, err := Dial(ctx, url, &ClientOptions{Token: "wrong"}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Dial with a wrong token = %v, want ErrPermission", err)
	}
	time.Sleep(50 * time.Millisecond)
	if n := strings.Count(log.String(), "\n"); n != 2 {
		t.Errorf("the log has %d lines for 2 refusals, want 2:\n%s", n, log)
	}
}
