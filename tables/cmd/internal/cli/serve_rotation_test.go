package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightclient"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// credential is a token in use: by a client of Flight, by requests with the token, and by a session of the page.
type credential struct {
	web     string // the URL of the page
	token   string
	flight  *flightclient.Client
	session *http.Client // signed in to the page
}

func newCredential(token, flightURL, web string, roots *x509.CertPool) (*credential, error) {
	c := &credential{web: web, token: token}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	c.session = &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	if c.flight, err = flightclient.Dial(flightURL, &flightclient.Options{Token: token, CAs: roots}); err != nil {
		return nil, err
	}
	return c, c.post("/api/sign-in", `{"token": "`+token+`"}`)
}

func (c *credential) do(r *http.Request, err error) error {
	if err != nil {
		return err
	}
	r.Header.Set("X-Partd", "1")
	a, err := c.session.Do(r)
	if err != nil {
		return err
	}
	defer a.Body.Close() //nolint:errcheck // all of it is read
	text, err := io.ReadAll(a.Body)
	if err == nil && a.StatusCode >= 300 {
		err = fmt.Errorf("%s: %s %s", r.URL.Path, a.Status, text)
	}
	return err
}

func (c *credential) post(path, body string) error {
	return c.do(http.NewRequest(http.MethodPost, c.web+path, strings.NewReader(body)))
}

// withToken makes a request with the token instead of the session's cookie.
func (c *credential) withToken(path string) error {
	r, err := http.NewRequest(http.MethodGet, c.web+path, nil)
	if err == nil {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	plain := &credential{session: &http.Client{Transport: c.session.Transport}}
	return plain.do(r, err)
}

func drain(r array.RecordReader, err error) error {
	if err != nil {
		return err
	}
	_, err = tabletest.CountRows(r)
	return err
}

// TestServeRotatesSecrets replaces every secret of a server under load several times: the secret that signs tokens, the
// certificate's key, and all tokens, with which clients put, get, run statements over Flight and HTTP, and use the page
// and the Iceberg catalog. No request may fail, and every row must arrive once. Afterwards, old tokens are refused.
func TestServeRotatesSecrets(t *testing.T) {
	const rounds = 2 // the second replaces what the first put in place; a third would only repeat it
	ctx, dir := t.Context(), t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		must.Do(t, errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path)))
		return path
	}
	roots := x509.NewCertPool()
	var certs, keys []string
	for range rounds + 1 {
		cert, key := certificate(t)
		text, err := os.ReadFile(cert)
		keyText, keyErr := os.ReadFile(key)
		must.Do(t, errors.Join(err, keyErr))
		roots.AppendCertsFromPEM(text)
		certs, keys = append(certs, string(text)), append(keys, string(keyText))
	}
	secretOf := func(round int) string { return fmt.Sprintf("the secret of round %d, with 32 bytes or more", round) }
	web := "localhost:" + nettest.FreePort(t)
	cmd, u := startServer(t, "--listen", "grpc+tls://localhost:0", "--dir", filepath.Join(dir, "buckets"), "--http", web,
		"--tls-cert", file("cert", certs[0]), "--tls-key", file("key", keys[0]),
		"--secret-file", file("secret", secretOf(0)+"\n"), "--second-secret-file", file("second", ""), "--revoked-file", file("revoked", "# none\n"))
	hangUp := func() {
		t.Helper()
		must.Do(t, cmd.Process.Signal(syscall.SIGHUP))
	}
	dial := func(round int, name string) (*credential, error) {
		token := must.Get(flightd.NewNamedToken([]byte(secretOf(round)), name, flightd.Admin, time.Hour))(t)
		return newCredential(token, u.String(), "https://"+web, roots)
	}
	first := must.Get(dial(0, "job"))(t)
	var current atomic.Pointer[credential]
	current.Store(first)
	schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Int64}}, nil)
	row := tabletest.ParseRows(t, schema, `[{"x": 1}]`)
	one := func() array.RecordReader { return tabletest.OneBatch(row) }
	must.Get(first.flight.Put(ctx, "b", "t", one(), tables.PutAppend, nil))(t)
	puts, stop := int64(1), make(chan struct{})
	var workers sync.WaitGroup
	var counts []*atomic.Int64
	for _, request := range map[string]func(*credential) error{
		"put": func(c *credential) error {
			puts++
			_, err := c.flight.Put(ctx, "b", "t", one(), tables.PutAppend, nil)
			return err
		},
		"get":       func(c *credential) error { return drain(c.flight.Scan(ctx, "b", "t", nil, nil)) },
		"statement": func(c *credential) error { return drain(c.flight.Query(ctx, "SELECT sum(x * 2) FROM b.t", nil)) },
		"exec": func(c *credential) error {
			_, err := c.flight.Exec(ctx, "DELETE FROM b.t WHERE x = 2", nil)
			return err
		},
		"session": func(c *credential) error {
			return errors.Join(c.do(http.NewRequest(http.MethodGet, c.web+"/api/tree", nil)), c.post("/api/query", `{"sql": "SELECT count(*) FROM b.t", "id": "`+rand.Text()+`"}`))
		},
		"HTTP":    func(c *credential) error { return c.withToken("/api/table?bucket=b&table=t") },
		"catalog": func(c *credential) error { return c.withToken("/iceberg/v1/namespaces/b/tables/t") },
	} {
		count := new(atomic.Int64)
		counts = append(counts, count)
		workers.Go(func() {
			for ; ; count.Add(1) {
				select {
				case <-stop:
					return
				case <-time.After(30 * time.Millisecond): // the processor must not be busy all the time
				}
				if err := request(current.Load()); err != nil {
					t.Errorf("a request failed while secrets rotated: %v", err)
					return
				}
			}
		})
	}
	everybodyContinues := func() {
		t.Helper()
		for _, count := range counts {
			before := count.Load()
			waitUntil(t, "a client's requests do not continue", func() bool { return count.Load() >= before+2 || t.Failed() })
		}
	}
	everybodyContinues()
	old := first
	for round := 1; round <= rounds && !t.Failed(); round++ {
		file("second", secretOf(round))
		file("cert", certs[round])
		file("key", keys[round])
		hangUp()
		var next *credential
		var err error
		waitUntil(t, "a token of the new secret is refused", func() bool { next, err = dial(round, "job"); return err == nil })
		for _, address := range []string{u.Host, web} {
			conn := must.Get(tls.Dial("tcp", address, &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: []string{"h2"}}))(t)
			state := conn.ConnectionState()
			_ = conn.Close()
			if block, _ := pem.Decode([]byte(certs[round])); !bytes.Equal(state.PeerCertificates[0].Raw, block.Bytes) || state.NegotiatedProtocol != "h2" {
				t.Errorf("%s: after round %d, the server uses an old certificate, or the protocol %q instead of h2", address, round, state.NegotiatedProtocol)
			}
		}
		everybodyContinues() // with the old token
		current.Store(next)
		everybodyContinues()
		file("secret", secretOf(round))
		file("second", "\n")
		hangUp()
		waitUntil(t, "a token of the old secret is accepted", func() bool { return old.withToken("/api/tree") != nil })
		for name, err := range map[string]error{
			"HTTP": old.withToken("/api/tree"), "the page": old.do(http.NewRequest(http.MethodGet, old.web+"/api/tree", nil)),
			"Flight": drain(old.flight.Scan(ctx, "b", "t", nil, nil)),
		} {
			must.Fail(t, err, "signature is invalid", "%s with a token of the old secret", name)
		}
		old = next
	}
	eve := must.Get(dial(rounds, "eve"))(t)
	file("revoked", "# names\r\n\r\n  eve \r\n")
	hangUp()
	waitUntil(t, "the revoked token is accepted", func() bool { return eve.withToken("/api/tree") != nil })
	must.Fail(t, drain(eve.flight.Scan(ctx, "b", "t", nil, nil)), `"eve" are revoked`, "a get with a revoked token")
	file("secret", "") // unusable, so the previous secrets stay
	hangUp()
	time.Sleep(200 * time.Millisecond)
	file("secret", secretOf(rounds))
	file("revoked", "\xef\xbb\xbfnobody\n") // unusable, so eve stays revoked
	hangUp()
	time.Sleep(200 * time.Millisecond)
	if eve.withToken("/api/tree") == nil {
		t.Error("an unusable file of revoked names replaced the previous names")
	}
	everybodyContinues()
	close(stop)
	workers.Wait()
	rows := must.Get(current.Load().flight.Query(context.WithoutCancel(ctx), "SELECT count(*) AS n FROM b.t", nil))(t)
	defer rows.Release()
	for rows.Next() {
		if n := rows.RecordBatch().Column(0).(*array.Int64).Value(0); n != puts {
			t.Errorf("the table has %d rows, want %d, one for each put", n, puts)
		}
	}
	var total int64
	for _, count := range counts {
		total += count.Load()
	}
	t.Logf("%d requests during %d rotations, %d of them puts", total, rounds, puts)
}
