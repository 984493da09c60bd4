package cli

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestServeReloadsCertificates checks that certificates are read again after their files change, for Flight
// and for HTTP, and that invalid files change nothing.
func TestServeReloadsCertificates(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	replace := func() *x509.Certificate {
		t.Helper()
		newCert, newKey := certificate(t)
		for source, target := range map[string]string{newCert: cert, newKey: key} {
			if err := os.Rename(source, target); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(cert)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	var addresses []string
	expectCertificate := func(want *x509.Certificate, within time.Duration) {
		t.Helper()
		roots := x509.NewCertPool()
		roots.AddCert(want)
		for _, address := range addresses {
			for deadline := time.Now().Add(within); ; time.Sleep(100 * time.Millisecond) {
				conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: []string{"h2"}})
				if err != nil && time.Now().Before(deadline) {
					continue
				}
				if err != nil {
					t.Fatalf("connect to %s: %v", address, err)
				}
				state := conn.ConnectionState()
				_ = conn.Close()
				if !bytes.Equal(state.PeerCertificates[0].Raw, want.Raw) || state.NegotiatedProtocol != "h2" {
					t.Errorf("%s: the server uses protocol %q, want h2, with the expected certificate", address, state.NegotiatedProtocol)
				}
				break
			}
		}
	}
	first := replace()
	web := "localhost:" + freePort(t)
	_, u := startServer(t, "--listen", "grpc+tls://localhost:0", "--dir", filepath.Join(dir, "buckets"), "--tls-cert", cert, "--tls-key", key, "--http", web)
	addresses = []string{u.Host, web}
	expectCertificate(first, time.Second)
	second := replace()
	expectCertificate(second, 10*time.Second)
	if err := os.WriteFile(cert, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1500 * time.Millisecond)
	expectCertificate(second, time.Second)
}
