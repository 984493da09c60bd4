// Package postgres runs a PostgreSQL server as its own processes, for tests.
package postgres

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"time"
)

// T is what is used of a testing.TB.
type T interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
	Skip(...any)
	Cleanup(func())
}

// Server is a server with one database, "postgres", of the user of the same name.
type Server struct {
	Addr     string
	dir, bin string
	cmd      *exec.Cmd
}

// Start starts one, which ends with the test, or skips the test where there is none.
// It runs as the user postgres where the test is root's, as whom it refuses to run.
func Start(t T) *Server {
	t.Helper()
	initdb, err := exec.LookPath("initdb")
	if err != nil { // where Debian has it
		found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
		if len(found) == 0 {
			const how = "PostgreSQL's server is not installed: apt-get install postgresql"
			if os.Getenv("PARTD_REQUIRE_ALL") != "" {
				t.Fatal(how)
			}
			t.Skip(how)
		}
		initdb = found[len(found)-1]
	}
	if initdb, err = filepath.EvalSymlinks(initdb); err != nil { // the other programs are beside it
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Addr: l.Addr().String(), bin: filepath.Dir(initdb)}
	l.Close()
	if s.dir, err = os.MkdirTemp("", "postgres"); err != nil { // t.TempDir is for the test's own user
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(s.dir) })
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(s.dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := s.command("initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-N", "--no-locale", "-E", "UTF8").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	s.Start(t)
	t.Cleanup(s.Kill)
	return s
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	runAs(cmd)
	return cmd
}

// Start starts the server again, at the same address.
func (s *Server) Start(t T) {
	t.Helper()
	host, port, _ := net.SplitHostPort(s.Addr)
	s.cmd = s.command("postgres", "-D", s.data(), "-h", host, "-p", port, "-k", s.dir, "-c", "shared_buffers=16MB")
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if s.command("pg_isready", "-q", "-h", host, "-p", port).Run() == nil {
			return
		}
	}
	t.Fatal("PostgreSQL does not listen")
}

// Kill ends the server at once, as if it had crashed.
func (s *Server) Kill() {
	_ = s.command("pg_ctl", "-D", s.data(), "-m", "immediate", "stop").Run()
	_ = s.cmd.Wait()
}

// URL is the database's, at another address if one is given.
func (s *Server) URL(addr ...string) string {
	return fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=disable", append(addr, s.Addr)[0])
}
