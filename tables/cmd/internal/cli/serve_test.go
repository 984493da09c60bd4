package cli

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables/internal/sql/worker"
)

func TestMain(m *testing.M) {
	worker.Main()
	procs.Roles{"partd-tables": procs.Program(Main)}.Play()
	os.Exit(m.Run())
}

// program returns partd-tables with the given arguments.
func program(args ...string) *exec.Cmd { return procs.Command("partd-tables", args...) }

// startServer starts a server process. It returns the process and the URL that it prints.
func startServer(t *testing.T, args ...string) (*exec.Cmd, *url.URL) {
	t.Helper()
	cmd := program(append([]string{"serve"}, args...)...)
	out := must.Get(cmd.StdoutPipe())(t)
	cmd.Stderr = t.Output()
	must.Do(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if ready, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
			return cmd, must.Get(url.Parse(ready))(t)
		}
	}
	t.Fatal("the server ended before it was ready")
	return nil, nil
}

func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private := must.Get(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der := must.Get(x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private))(t)
	keyDER := must.Get(x509.MarshalPKCS8PrivateKey(private))(t)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		must.Do(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	}
	return cert, key
}

// TestShootsClient checks that the shoots client gets the same results from this server as from shoots' server, with
// TLS and tokens. Then it stops the server, which must exit with 0.
func TestShootsClient(t *testing.T) {
	cert, key := certificate(t)
	secret := filepath.Join(t.TempDir(), "secret")
	must.Do(t, os.WriteFile(secret, []byte("a secret of 32 bytes or more, of words\n"), 0o600))
	cmd, u := startServer(t, "--listen", "grpc+tls://localhost:0", "--tls-cert", cert, "--tls-key", key, "--secret-file", secret, "--dir", filepath.Join(t.TempDir(), "buckets"))
	if out := python(t, "shoots", "shoots_serve_peer.py", u.Port(), nettest.FreePort(t), t.TempDir(), cert, key, "a secret of 32 bytes or more, of words"); strings.TrimSpace(out) != "" {
		t.Errorf("the comparison with shoots printed differences:\n%s", out)
	}
	must.Do(t, cmd.Wait())
}

// TestShootsSuite checks that the shoots package's own tests pass against this server, in each of their three
// modes.
func TestShootsSuite(t *testing.T) {
	script := must.Get(filepath.Abs(filepath.Join("testdata", "shoots_suite.py")))(t)
	cert, key := certificate(t)
	server := program()
	cmd := exec.CommandContext(t.Context(), procs.Python(t, "shoots"), "-W", "ignore", script, server.Path, cert, key, nettest.FreePort(t), nettest.FreePort(t), nettest.FreePort(t))
	cmd.Dir, cmd.Env = t.TempDir(), server.Env
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "Ran 91 tests") {
		t.Fatalf("the tests of shoots failed: %v\n%s", err, out)
	}
	t.Log("91 passed")
}

// TestServeUsage checks that unsafe or incomplete flags yield a usage error.
func TestServeUsage(t *testing.T) {
	cert, key := certificate(t)
	secret := filepath.Join(t.TempDir(), "secret")
	must.Do(t, os.WriteFile(secret, []byte("secret\n"), 0o600))
	for _, c := range []struct{ args, text string }{
		{"--tls-cert " + cert, "must be used together"},
		{"--tls-key " + key, "must be used together"},
		{"--cert_file " + cert, "must be used together"},
		{"--secret-file " + secret, "without TLS"},
		{"--secret x", "without TLS"},
		{"--listen grpc://0.0.0.0:0", "neither a secret nor TLS"},
		{"--listen grpc://localhost:0 --http 0.0.0.0:0", "neither a secret nor TLS"},
		{"--listen grpc+tls://localhost:0", "--tls-cert"},
		{"--listen grpc://localhost:0 --tls-cert " + cert + " --tls-key " + key, "grpc+tls"},
		{"--listen tcp://localhost:0", "grpc://HOST:PORT"},
		{"--listen grpc://localhost", "HOST:PORT"},
		{"--listen grpc://localhost:x", "not a port"},
		{"--listen grpc://localhost:0 --port 1", "cannot be combined"},
		{"--print-token", "--secret-file"},
		{"--max-puts 0", "at least 1"},
		{"--idle-timeout 0s", "more than 0"},
	} {
		wantFailure(t, cliutil.ExitUsage, c.text, append([]string{"serve", "--dir", t.TempDir()}, strings.Fields(c.args)...)...)
	}
	for _, args := range []string{"token", "token --admin", "token --admin --read --secret-file " + secret, "token --admin --ttl x --secret-file " + secret} {
		if _, stderr, code := command(t, "", strings.Fields(args)...); code != cliutil.ExitUsage {
			t.Errorf("%s: exit code %d, stderr %q, want a usage error", args, code, stderr)
		}
	}
	if out, _, code := command(t, "", "token", "--admin", "--bucket", "B", "--bucket", "", "--secret-file", secret); code != 0 || strings.Count(out, ".") != 2 {
		t.Errorf("token --admin --bucket B: exit code %d, output %q, want a token with two dots", code, out)
	}
	if out, _, code := command(t, "", "token", "--read", "--ttl", "30d", "--secret-file", secret); code != 0 || strings.Count(out, ".") != 2 || strings.Count(out, "\n") != 1 {
		t.Errorf("token --read --ttl 30d: exit code %d, output %q, want one line with a token", code, out)
	}
}

// TestServeStops checks that an interrupt and the end of the standard input stop the server gracefully.
func TestServeStops(t *testing.T) {
	t.Setenv("SHOOTS_PORT", "0")
	t.Setenv("SHOOTS_BUCKET_DIR", filepath.Join(t.TempDir(), "named by a variable"))
	cmd, u := startServer(t)
	if u.Scheme != "grpc" || u.Hostname() != "localhost" || u.Port() == "8081" {
		t.Errorf("the server listens on %s, want another port of localhost", u)
	}
	if _, err := os.Stat(filepath.Join(os.Getenv("SHOOTS_BUCKET_DIR"), "catalog.db")); err != nil {
		t.Errorf("the directory of SHOOTS_BUCKET_DIR has no catalog: %v", err)
	}
	must.Do(t, cmd.Process.Signal(os.Interrupt))
	must.Do(t, cmd.Wait())
	cmd, _ = startServer(t, "--exit-on-stdin-close") // the standard input is the null device
	must.Do(t, cmd.Wait())
}

// TestServeDefaultDir checks that serve has the same default directory as the other commands, and that of shoots with a
// flag or a variable of shoots. It warns if only the other of the two directories contains tables.
func TestServeDefaultDir(t *testing.T) {
	t.Chdir(t.TempDir())
	serve := func(wantDir string, wantWarning bool, args ...string) {
		t.Helper()
		// The server stops on its own, because its standard input is the null device.
		out, err := program(append([]string{"serve", "--exit-on-stdin-close"}, args...)...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "ready ") {
			t.Fatalf("the server did not become ready: error %v, output %s", err, out)
		}
		if _, err := os.Stat(filepath.Join(wantDir, "catalog.db")); err != nil || strings.Contains(string(out), "are not served: to serve them, use --dir ") != wantWarning {
			t.Errorf("serve %q: want tables in %s (%v) and a warning: %v; output %s", args, wantDir, err, wantWarning, out)
		}
	}
	mustRun(t, "", "put", "t", writeTemp(t, "t.csv", "a\n1\n"))
	serve("partd-tables", false, "--listen", "grpc://localhost:0")
	serve("buckets", true, "--port", "0")
	serve("buckets", false, "--port", "0")
	must.Do(t, os.Rename("partd-tables", "renamed"))
	serve("renamed", false, "--listen", "grpc://localhost:0", "--dir", "renamed")
	serve("partd-tables", true, "--listen", "grpc://localhost:0")
	must.Do(t, os.Rename("buckets", "moved"))
	t.Setenv("SHOOTS_HOST", "localhost")
	t.Setenv("SHOOTS_PORT", "0")
	serve("buckets", true)
}

// TestServeHTTPAndToken checks that the server reports its state over HTTP, that it prints a valid token, and
// that its log contains no secret.
func TestServeHTTPAndToken(t *testing.T) {
	const secret = "a secret that nobody may read"
	cert, key := certificate(t)
	admin := "localhost:" + nettest.FreePort(t)
	cmd := program("serve", "--listen", "grpc+tls://localhost:0", "--dir", t.TempDir(), "--tls-cert", cert, "--tls-key", key,
		"--secret-file", writeTemp(t, "secret", secret+"\n"), "--print-token", "--http", admin)
	out := must.Get(cmd.StdoutPipe())(t)
	var log strings.Builder
	cmd.Stderr = &log
	must.Do(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	var printed []string
	for len(printed) < 2 && lines.Scan() {
		printed = append(printed, lines.Text())
	}
	if len(printed) != 2 || strings.Count(printed[0], ".") != 2 || !strings.HasPrefix(printed[1], "ready grpc+tls://localhost:") {
		t.Fatalf("the server printed %q, want a token and ready", printed)
	}
	server := strings.TrimPrefix(printed[1], "ready ")
	run := func(token string) (string, int) {
		_, stderr, code := command(t, "", "list", "--server", server, "--token-file", writeTemp(t, "token", token+"\n"), "--ca", cert)
		return stderr, code
	}
	if stderr, code := run(printed[0]); code != cliutil.ExitOK {
		t.Errorf("list with the printed token failed: %q", stderr)
	}
	const wrong = "eyJwrong.token.here"
	if stderr, code := run(wrong); code != cliutil.ExitFailed || strings.Contains(stderr, wrong) {
		t.Errorf("list with a wrong token: exit code %d, stderr %q, want an error without the token", code, stderr)
	}
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ok", "/metrics": `partd_tables_calls_total{code="OK",method="DoAction"} 1`, "/metrics?": `partd_build_info{commit="`} {
		if code, body := fetch(t, admin, path, nil); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("GET %s: got status %d, body %s; want status 200 and %q", path, code, body, want)
		}
	}
	if _, stderr, code := command(t, "", "put", "t", writeTemp(t, "t.csv", "a\n1\n"), "--server", server, "--token-file", writeTemp(t, "token", printed[0]+"\n"), "--ca", cert); code != cliutil.ExitOK {
		t.Errorf("put with the printed token failed: %q", stderr)
	}
	checkMonitoring(t, "http://"+admin+"/metrics")
	pem := must.Get(os.ReadFile(cert))(t)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	for token, want := range map[string]int{printed[0]: http.StatusOK, wrong: http.StatusUnauthorized} {
		sign := must.Get(http.NewRequest(http.MethodPost, "https://"+admin+"/api/sign-in", strings.NewReader(`{"token": "`+token+`"}`)))(t)
		sign.Header.Set("X-Partd", "1")
		r := must.Get(client.Do(sign))(t)
		r.Body.Close()
		if r.StatusCode != want || r.ProtoMajor != 2 || want == http.StatusOK && !r.Cookies()[0].Secure {
			t.Errorf("sign-in over TLS: got %v, want status %d", r, want)
		}
	}
	if r, err := client.Get("http://" + admin + "/"); err != nil || r.Request.URL.Scheme != "https" || r.StatusCode != http.StatusOK { // the client is redirected
		t.Errorf("request without TLS: got %v, %v, want a redirection", r, err)
	}
	must.Do(t, cmd.Process.Signal(os.Interrupt))
	must.Do(t, cmd.Wait())
	for _, hidden := range []string{secret, printed[0], wrong} {
		if strings.Contains(log.String(), hidden) {
			t.Errorf("the log contains %q: %s", hidden, log.String())
		}
	}
}

// checkMonitoring fails the test if a dashboard or an alert uses a metric that the server lacks, or
// if the dashboard has no panel for one of the server's metrics.
func checkMonitoring(t *testing.T, url string) {
	t.Helper()
	r := must.Get(http.Get(url))(t)
	defer r.Body.Close()
	served := must.Get(io.ReadAll(r.Body))(t)
	for _, name := range []string{"partd-tables.json", "alerts.yml"} {
		text := must.Get(os.ReadFile(filepath.Join("..", "..", "..", "..", "packaging", "monitoring", name)))(t)
		metrics := regexp.MustCompile(`partd_tables_[a-z_]+|process_[a-z_]+`).FindAllString(string(text), -1)
		if len(metrics) < 4 {
			t.Errorf("%s uses only the metrics %v, want at least 4", name, metrics)
		}
		for _, m := range metrics {
			if !strings.Contains(string(served), "\n"+m) {
				t.Errorf("%s: the server has no metric %s", name, m)
			}
		}
		for _, m := range regexp.MustCompile(`# TYPE (partd_\w+)`).FindAllStringSubmatch(string(served), -1) {
			if name == "partd-tables.json" && !regexp.MustCompile(m[1]+`(_bucket)?\{`).Match(text) {
				t.Errorf("%s has no panel for %s", name, m[1])
			}
		}
	}
}

// fetch sends a GET request, or a POST request if there is a body, to a server's HTTP address, and returns the answer.
func fetch(t *testing.T, address, path string, body io.Reader) (code int, text string) {
	t.Helper()
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	r := must.Get(http.NewRequestWithContext(t.Context(), method, "http://"+address+path, body))(t)
	r.Header.Set("X-Partd", "1")
	a := must.Get(http.DefaultClient.Do(r))(t)
	defer a.Body.Close()
	return a.StatusCode, string(must.Get(io.ReadAll(a.Body))(t))
}

func waitUntil(t *testing.T, message string, condition func() bool) {
	t.Helper()
	must.Eventually(t, 30*time.Second, message, condition)
}
