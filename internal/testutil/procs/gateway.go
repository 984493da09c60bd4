package procs

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Gateway is a process of versitygw, which serves S3 from a directory. It has one bucket, "bucket", whose objects are
// files in a subdirectory of Dir.
type Gateway struct {
	Dir, Addr string
	mu        sync.Mutex
	cmd       *exec.Cmd
}

const versityVersion = "v1.8.0"

// StartGateway starts a Gateway, and stops it when the test ends. It sets environment variables from which
// clients get the Gateway's credentials. If versitygw is not installed, StartGateway skips the test.
func StartGateway(t testing.TB) *Gateway {
	t.Helper()
	path := os.Getenv("PARTD_VERSITYGW")
	if path == "" {
		var err error
		if path, err = exec.LookPath("versitygw"); err != nil {
			Skip(t, "versitygw is not installed: go install github.com/versity/versitygw/cmd/versitygw@%s", versityVersion)
		}
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
func (g *Gateway) Restart(t testing.TB) {
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
