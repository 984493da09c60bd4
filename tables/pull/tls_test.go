package pull

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/tables/internal/files/content"
)

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	der, key := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.key = key
	a.pool.AddCert(a.cert)
	return a
}

// sign signs a certificate. The authority's own certificate is self-signed.
func (a *authority) sign(t *testing.T, c *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return der, key
}

// config returns the TLS configuration of a node with a certificate of the authority.
func (a *authority) config(t *testing.T) *tls.Config {
	t.Helper()
	der, key := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, RootCAs: a.pool, ClientCAs: a.pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
	}
}

// TestCertificates checks that nodes with certificates of the same authority load from each
// other. A node without such a certificate must get nothing. No node may trust a server
// without such a certificate, or send its token to that server.
func TestCertificates(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	trusted, untrusted := newAuthority(t), newAuthority(t)
	a := openNode(t, t.TempDir(), Options{Registry: url, TLS: trusted.config(t), Token: "secret"})
	mustSave(t, a, "x", 0, "a=1,2")
	b := openNode(t, t.TempDir(), Options{Registry: url, TLS: trusted.config(t), Token: "secret"})
	wantRows(t, b, "x", "0 1\n1 2\n")
	if !strings.HasPrefix(a.Address(), "https://") {
		t.Errorf("Address() = %q, want an https URL", a.Address())
	}
	bare := trusted.config(t)
	bare.Certificates = nil
	foreign := untrusted.config(t)
	foreign.RootCAs = trusted.pool // so that this node trusts the certificates of the other nodes
	for name, c := range map[string]*tls.Config{"no certificate": bare, "certificate of another authority": foreign} {
		n, err := Open(t.Context(), t.TempDir(), &Options{Registry: url, TLS: c, Token: "secret", Lease: time.Hour}) // serves nothing
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Load(t.Context(), "x", noBound, noBound); !errors.Is(err, ErrSyncFailed) || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: Load: got error %v, want an ErrSyncFailed about the certificate", name, err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	// The node must send no request to a server with a certificate of another authority, or
	// without TLS.
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("the node requested %s", r.URL) })
	impostor := httptest.NewUnstartedServer(handler)
	impostor.Config.ErrorLog = log.New(io.Discard, "", 0)
	impostor.TLS = untrusted.config(t)
	impostor.TLS.ClientAuth = tls.NoClientCert
	impostor.StartTLS()
	defer impostor.Close()
	if err := b.fetch(t.Context(), content.Named{Hash: strings.Repeat("a", 64), Size: 1}, []peer{{"impostor", impostor.URL}}); !errors.Is(err, ErrSyncFailed) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("fetch from an impostor: got error %v, want an ErrSyncFailed about the certificate", err)
	}
	addHostilePeer(t, b, handler)
	if peers := b.reg.peers(record{}); len(peers) != 1 || peers[0].address != a.Address() {
		t.Errorf("peers = %v, want only %s", peers, a.Address())
	}
}
