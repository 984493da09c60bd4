package procs

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Postgres is a PostgreSQL server with one database and one user, both called "postgres".
type Postgres struct {
	Addr     string
	dir, bin string
	cmd      *exec.Cmd
}

// StartPostgres starts a Postgres, and stops it when the test ends. If PostgreSQL is not installed, StartPostgres skips
// the test. If the test runs as root, the server runs as the user postgres.
func StartPostgres(t testing.TB) *Postgres {
	t.Helper()
	initdb, err := exec.LookPath("initdb")
	if err != nil { // Debian installs initdb in a directory that is not on the PATH
		paths, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
		if len(paths) == 0 {
			Skip(t, "PostgreSQL's server is not installed: apt-get install postgresql")
		}
		initdb = paths[len(paths)-1]
	}
	if initdb, err = filepath.EvalSymlinks(initdb); err != nil { // the other programs are next to it
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Postgres{Addr: l.Addr().String(), bin: filepath.Dir(initdb)}
	l.Close()
	if s.dir, err = os.MkdirTemp("", "postgres"); err != nil { // not t.TempDir, which the user postgres could not read
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
	s.Restart(t)
	t.Cleanup(s.Kill)
	return s
}

func (s *Postgres) data() string { return filepath.Join(s.dir, "data") }

func (s *Postgres) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	runAs(cmd)
	return cmd
}

// Restart starts the server again, at the same address. Call Kill first.
func (s *Postgres) Restart(t testing.TB) {
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
	t.Fatal("PostgreSQL did not accept connections within two minutes")
}

// Kill stops the server immediately, as if it had crashed.
func (s *Postgres) Kill() {
	_ = s.command("pg_ctl", "-D", s.data(), "-m", "immediate", "stop").Run()
	_ = s.cmd.Wait()
}

// URL returns the URL of the database. addr is another address for it, such as a proxy's.
func (s *Postgres) URL(addr ...string) string {
	return fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=disable", append(addr, s.Addr)[0])
}
