// Package gateway runs versitygw, which serves S3 from a directory, as a process for tests.
package gateway

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// T has the methods of testing.TB that the package uses.
type T interface {
	Helper()
	Fatal(...any)
	Skip(...any)
	Setenv(key, value string)
	TempDir() string
	Cleanup(func())
}

// Gateway is a server with one bucket, "bucket", whose objects are files in a subdirectory of Dir.
type Gateway struct {
	Dir, Addr string
	mu        sync.Mutex
	cmd       *exec.Cmd
}

const version = "v1.8.0"

// Start starts a Gateway, and stops it when the test ends. It sets environment variables from which
// clients get the Gateway's credentials. If versitygw is not installed, Start skips the test.
func Start(t T) *Gateway {
	t.Helper()
	path, err := exec.LookPath("versitygw")
	if p := os.Getenv("PARTD_VERSITYGW"); p != "" {
		path, err = p, nil
	}
	if err != nil {
		const advice = "versitygw is not installed: go install github.com/versity/versitygw/cmd/versitygw@" + version
		if os.Getenv("PARTD_REQUIRE_ALL") != "" {
			t.Fatal(advice)
		}
		t.Skip(advice)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &Gateway{Dir: t.TempDir(), Addr: l.Addr().String()}
	l.Close()
	if err := os.Mkdir(filepath.Join(g.Dir, "bucket"), 0o777); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "user")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secretsecret")
	t.Setenv("PARTD_VERSITYGW", path)
	g.Restart(t)
	t.Cleanup(g.Kill)
	return g
}

// Restart starts the process again, at the same address. Call Kill first.
func (g *Gateway) Restart(t T) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cmd = exec.Command(os.Getenv("PARTD_VERSITYGW"), "--port", g.Addr, "--access", "user", "--secret", "secretsecret", "--quiet", "--keep-alive", "posix", g.Dir)
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", g.Addr); err == nil {
			c.Close()
			return
		}
	}
	t.Fatal("versitygw did not start to listen within a minute")
}

// Kill kills the process.
func (g *Gateway) Kill() {
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = g.cmd.Process.Kill()
	_ = g.cmd.Wait()
}

// Pid returns the process ID.
func (g *Gateway) Pid() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cmd.Process.Pid
}
