// Package engines tests the Iceberg REST catalog of serve --rest with other programs' clients and
// engines, and against its specification.
package engines

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables/cmd/internal/cli"
	"github.com/go-partd/partd/tables/internal/sql/worker"
)

const programEnv = "PARTD_TEST_ENGINES"

// TestMain makes the test binary act as partd-tables if programEnv is set.
func TestMain(m *testing.M) {
	worker.Main()
	if os.Getenv(programEnv) != "" {
		os.Exit(cli.Main(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func program(ctx context.Context, t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, must.Get(os.Executable())(t), args...)
	cmd.Env = append(os.Environ(), programEnv+"=1")
	return cmd
}

func run(t testing.TB, input string, args ...string) string {
	t.Helper()
	cmd := program(t.Context(), t, args...)
	cmd.Stdin = strings.NewReader(input)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("partd-tables %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

const secret = "a secret of 32 bytes or more, of words"

type server struct {
	t           testing.TB
	dir         string // the tables' directory
	url, flight string
	ca          string // path of the certificate; "" without TLS
	token       string // admin token; "" without a secret
	cmd         *exec.Cmd
	log         *procs.Output
	client      *http.Client
}

func serve(t testing.TB, flags ...string) *server {
	t.Helper()
	s := &server{t: t, dir: filepath.Join(t.TempDir(), "house"), client: &http.Client{Timeout: time.Minute}}
	s.start("127.0.0.1:0", append([]string{"--listen", "grpc://127.0.0.1:0"}, flags...)...)
	return s
}

func secretFile(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	must.Do(t, os.WriteFile(file, []byte(secret+"\n"), 0o600))
	return file
}

// serveSecret starts a server that requires tokens, without TLS.
func serveSecret(t testing.TB, flags ...string) *server {
	t.Helper()
	s := serve(t, append([]string{"--insecure", "--secret-file", secretFile(t)}, flags...)...)
	s.token = s.newToken("--admin")
	return s
}

func (s *server) newToken(flags ...string) string {
	s.t.Helper()
	return strings.TrimSpace(run(s.t, "", append([]string{"token", "--secret-file", secretFile(s.t)}, flags...)...))
}

var restURL = regexp.MustCompile(`address="?(https?://[^\s"]+)`)

func (s *server) start(rest string, flags ...string) {
	s.t.Helper()
	s.cmd, s.log = program(context.Background(), s.t, append([]string{"serve", "--dir", s.dir, "--rest", rest}, flags...)...), new(procs.Output)
	s.cmd.Stderr = s.log
	out := must.Get(s.cmd.StdoutPipe())(s.t)
	must.Do(s.t, s.cmd.Start())
	cmd := s.cmd
	s.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		killTimer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		killTimer.Stop()
		if s.t.Failed() {
			s.t.Logf("the server's log:\n%s", s.log)
		}
	})
	ready := bufio.NewScanner(out)
	for ready.Scan() {
		if url, ok := strings.CutPrefix(ready.Text(), "ready "); ok {
			s.flight = url
			break
		}
	}
	var match []string
	for deadline := time.Now().Add(10 * time.Second); s.flight != "" && match == nil && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		match = restURL.FindStringSubmatch(s.log.String()) // the URL was printed before ready, but on another pipe
	}
	if s.flight == "" || match == nil {
		s.t.Fatalf("the server is not ready, or did not log the catalog's address:\n%s", s.log)
	}
	s.url = strings.TrimSuffix(match[1], "/")
	go func() { _, _ = io.Copy(io.Discard, out) }()
}

func (s *server) kill() {
	s.t.Helper()
	must.Do(s.t, s.cmd.Process.Kill())
	_ = s.cmd.Wait()
}

func (s *server) trust(file string) {
	s.t.Helper()
	pem := must.Get(os.ReadFile(file))(s.t)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	s.ca, s.client = file, &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
}

type answer struct {
	code   int
	header http.Header
	raw    string
	body   map[string]any
}

func (s *server) send(method, path string, body any, headers ...string) answer {
	s.t.Helper()
	return s.sendAs(s.token, method, path, body, headers...)
}

// sendAs sends a request. A body is sent as JSON, or unchanged if it is a string. Headers are
// alternating names and values.
func (s *server) sendAs(token, method, path string, body any, headers ...string) answer {
	s.t.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	default:
		r = bytes.NewReader(must.Get(json.Marshal(b))(s.t))
	}
	req := must.Get(http.NewRequestWithContext(s.t.Context(), method, s.url+path, r))(s.t)
	if r != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := s.client.Do(req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	a := answer{code: res.StatusCode, header: res.Header, raw: string(raw)}
	if len(raw) > 0 {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		_ = d.Decode(&a.body)
	}
	return a
}

// value returns the value at a path of names in the body, or nil if the path is missing.
func (a answer) value(names ...string) any {
	var v any = a.body
	for _, name := range names {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

func (a answer) text(names ...string) string {
	s, _ := a.value(names...).(string)
	return s
}

func (a answer) number(names ...string) int64 {
	n, _ := a.value(names...).(json.Number)
	i, err := n.Int64()
	if err != nil {
		return -1
	}
	return i
}

// intFromEnv returns the number in an environment variable, or defaultValue if the variable contains none.
func intFromEnv(name string, defaultValue int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return defaultValue
}
