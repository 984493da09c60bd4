package pull

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/tables/internal/files/content"
)

func newAuthority(t *testing.T, name string) *nettest.Authority {
	t.Helper()
	return must.Get(nettest.NewAuthority(t.TempDir(), name))(t)
}

// configOf returns the TLS configuration of a node with a certificate of the authority.
func configOf(t *testing.T, a *nettest.Authority) *tls.Config {
	t.Helper()
	p := must.Get(a.Issue("node", time.Hour, "127.0.0.1"))(t)
	return &tls.Config{
		Certificates: []tls.Certificate{p.TLS}, RootCAs: a.Pool, ClientCAs: a.Pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
	}
}

// TestCertificates checks that nodes with certificates of the same authority load from each
// other. A node without such a certificate must get nothing. No node may trust a server
// without such a certificate, or send its token to that server.
func TestCertificates(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	trusted, untrusted := newAuthority(t, "trusted"), newAuthority(t, "untrusted")
	a := openNode(t, t.TempDir(), Options{Registry: url, TLS: configOf(t, trusted), Token: "secret"})
	mustSave(t, a, "x", 0, "a=1,2")
	b := openNode(t, t.TempDir(), Options{Registry: url, TLS: configOf(t, trusted), Token: "secret"})
	wantRows(t, b, "x", "0 1\n1 2\n")
	if !strings.HasPrefix(a.Address(), "https://") {
		t.Errorf("Address() = %q, want an https URL", a.Address())
	}
	bare := configOf(t, trusted)
	bare.Certificates = nil
	foreign := configOf(t, untrusted)
	foreign.RootCAs = trusted.Pool // so that this node trusts the certificates of the other nodes
	for name, c := range map[string]*tls.Config{"no certificate": bare, "certificate of another authority": foreign} {
		n, err := Open(t.Context(), t.TempDir(), &Options{Registry: url, TLS: c, Token: "secret", Lease: time.Hour}) // serves nothing
		must.Do(t, err)
		if _, err := n.Load(t.Context(), "x", noBound, noBound); !errors.Is(err, ErrSyncFailed) || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: Load: got error %v, want an ErrSyncFailed about the certificate", name, err)
		}
		must.Do(t, n.Close())
	}
	// The node must send no request to a server with a certificate of another authority, or
	// without TLS.
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("the node requested %s", r.URL) })
	impostor := httptest.NewUnstartedServer(handler)
	impostor.Config.ErrorLog = log.New(io.Discard, "", 0)
	impostor.TLS = configOf(t, untrusted)
	impostor.TLS.ClientAuth = tls.NoClientCert
	impostor.StartTLS()
	defer impostor.Close()
	if err := b.fetch(t.Context(), content.HashNamed{Hash: strings.Repeat("a", 64), Size: 1}, []peer{{"impostor", impostor.URL}}); !errors.Is(err, ErrSyncFailed) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("fetch from an impostor: got error %v, want an ErrSyncFailed about the certificate", err)
	}
	addHostilePeer(t, b, handler)
	if peers := b.reg.peers(record{}); len(peers) != 1 || peers[0].address != a.Address() {
		t.Errorf("peers = %v, want only %s", peers, a.Address())
	}
}
