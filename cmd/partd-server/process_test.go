package main

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/hostile"
	"github.com/go-partd/partd/internal/testutil/serverproc"
)

// Several addresses, a free port and a socket are ready and served, with the default
// store in the working directory. A second server cannot use the same ones.
func TestReady(t *testing.T) {
	dir := t.TempDir()
	cmd := command("server", "--listen", "tcp://127.0.0.1:0", "--listen", "tcp://[::1]:0", "--listen", "ipc://"+dir+"/s.sock", "--log-format", "json")
	cmd.Dir = dir
	p, err := serverproc.Start(t.Context(), cmd, 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	for i, url := range p.URLs {
		network, address := "tcp", strings.TrimPrefix(url, "tcp://")
		if i == 2 {
			network, address = "unix", strings.TrimPrefix(url, "ipc://")
		}
		peer, err := hostile.Open(t.Context(), network, address, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if err := peer.Ask([]string{"ack"}, "append", "k", "v"); err != nil {
			t.Fatal(err)
		}
		if err := peer.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(dir + "/s.sock"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	if _, err := os.Stat(dir + "/partd-data/MANIFEST"); err != nil {
		t.Error(err)
	}
	code, _, errs := runCommand(t, nil, "--listen", "ipc://"+dir+"/s.sock", "--store", "mem:")
	if code != 1 || !strings.Contains(errs, "in use") {
		t.Errorf("a second server on the socket: exit code %d, %s", code, errs)
	}
	code, _, errs = runCommand(t, nil, "--listen", "tcp://127.0.0.1:0", "--store", "log:"+dir+"/partd-data")
	if code != 1 || !strings.Contains(errs, "partd-data") {
		t.Errorf("a second server on the store: exit code %d, %s", code, errs)
	}
	stop(t, p)
	if _, err := os.Stat(dir + "/s.sock"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket was not removed: %v", err)
	}
	for line := range strings.Lines(p.Stderr()) {
		if !strings.HasPrefix(line, `{"time":`) {
			t.Errorf("with --log-format json the log has %q", line)
		}
	}
}

// A server replaces the socket of a killed one.
func TestSocketOfAKilledServer(t *testing.T) {
	path := t.TempDir() + "/s.sock"
	for range 2 {
		p, err := serverproc.Start(t.Context(), command("server", "--listen", "ipc://"+path, "--store", "mem:"), 1)
		if err != nil {
			t.Fatal(err)
		}
		p.Kill()
		if _, err := os.Stat(path); err != nil {
			t.Fatal(err)
		}
	}
}

// Every flag can be set by the environment; the command line takes precedence.
func TestEnvironment(t *testing.T) {
	dir := t.TempDir()
	cmd := command("server", "--listen", "tcp://127.0.0.1:0")
	cmd.Env = append(cmd.Env, "PARTD_SERVER_LISTEN=tcp://0.0.0.0:0", "PARTD_SERVER_STORE=file:"+dir+"/data", "PARTD_SERVER_LOG_FORMAT=json",
		"PARTD_SERVER_MAX_MESSAGE=1MiB", "PARTD_SERVER_MAX_CONNECTIONS=1", "PARTD_SERVER_MEMORY=64MiB", "PARTD_SERVER_ALLOW_CLOSE=true",
		"PARTD_STORE=nonsense:")
	p, err := serverproc.Start(t.Context(), cmd, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	network, address := p.Address()
	peer, err := hostile.Open(t.Context(), network, address, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	if second, err := hostile.Open(t.Context(), network, address, 10*time.Second); err == nil {
		second.Close()
		t.Error("a second connection is served, with --max-connections 1")
	}
	if err := peer.Ask([]string{"ack"}, "append", "k", "v"); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(dir + "/data/k"); err != nil || string(text) != "v" {
		t.Errorf("the store has %q, %v", text, err)
	}
	if err := peer.Ask([]string{"ack"}, "close"); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(30 * time.Second); err != nil {
		t.Fatalf("after close: %v\n%s", err, p.Stderr())
	}
	if !strings.HasPrefix(p.Stderr(), `{"time":`) {
		t.Errorf("the log has %q", p.Stderr())
	}
}

// After a signal, requests in progress finish, acknowledged data is kept, and the exit code is 0.
func TestSignalDrains(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			dir := t.TempDir() + "/data"
			// The contents of a buffer must be in the directory afterwards.
			p := start(t, "--store", "buffer+file:"+dir+"?memory=64MiB")
			network, address := p.Address()
			peer, err := hostile.Open(t.Context(), network, address, 30*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			acked := 0
			for i := range 1_000_000 {
				if i == 1000 {
					if err := p.Signal(sig); err != nil {
						t.Fatal(err)
					}
				}
				if peer.Ask([]string{"ack"}, "append", "k", "x") != nil {
					break
				}
				acked++
			}
			if err := p.Wait(30 * time.Second); err != nil {
				t.Fatalf("%v\n%s", err, p.Stderr())
			}
			text, err := os.ReadFile(dir + "/k")
			if err != nil || len(text) != acked && len(text) != acked+1 {
				t.Errorf("%d appends were acknowledged, but %d are there: %v", acked, len(text), err)
			}
			if acked < 1000 {
				t.Errorf("only %d appends were acknowledged", acked)
			}
		})
	}
}

// SIGHUP does not end the server, and is logged.
func TestHangup(t *testing.T) {
	p := start(t, "--store", "mem:")
	network, address := p.Address()
	peer, err := hostile.Open(t.Context(), network, address, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	for range 3 {
		if err := p.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	for i := 0; !strings.Contains(p.Stderr(), "SIGHUP"); i++ {
		if i == 1000 || p.HasExited() {
			t.Fatalf("SIGHUP is not logged: %s", p.Stderr())
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := peer.Ask([]string{"ack"}, "append", "k", "v"); err != nil {
		t.Fatalf("%v\n%s", err, p.Stderr())
	}
	stop(t, p)
}

// A peer that reads no answers delays the end by at most --drain-timeout. Long before
// that, other peers' acknowledged data is in the directory.
func TestSlowReaderHoldsUpNoSignal(t *testing.T) {
	dir := t.TempDir() + "/data"
	p := start(t, "--store", "buffer+file:"+dir+"?memory=64MiB", "--drain-timeout", "2s")
	network, address := p.Address()
	peer, err := hostile.Open(t.Context(), network, address, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	if err := peer.Ask([]string{"ack"}, "append", "large", string(make([]byte, 16<<20)), "k", "v"); err != nil {
		t.Fatal(err)
	}
	if err := peer.Send("get", "large", "large", "large", "large"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond) // the answer has begun
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(20 * time.Second); err != nil {
		t.Fatalf("%v\n%s", err, p.Stderr())
	}
	if text, err := os.ReadFile(dir + "/k"); err != nil || string(text) != "v" {
		t.Errorf("the store has %q, %v", text, err)
	}
	if !strings.Contains(p.Stderr(), "cut off") {
		t.Errorf("the log does not say that a peer was cut off: %s", p.Stderr())
	}
}

// A second signal ends the process at once, with the code that shells use. A repetition
// within a second does not count: timeout signals the process and its group. The first
// signal is delayed by an append that waits for another process's lock.
func TestSecondSignal(t *testing.T) {
	for sig, want := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		t.Run(sig.String(), func(t *testing.T) {
			dir := t.TempDir() + "/data"
			p := start(t, "--store", "file:"+dir)
			lock, err := os.Open(dir + "/.lock")
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Close()
			if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
				t.Fatal(err)
			}
			network, address := p.Address()
			peer, err := hostile.Open(t.Context(), network, address, 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			if err := peer.Ask([]string{"ack"}, "syn"); err != nil {
				t.Fatal(err)
			}
			if err := peer.Send("append", "k", "v"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond) // the request has arrived
			if err := p.Signal(sig); err != nil {
				t.Fatal(err)
			}
			for i := 0; !strings.Contains(p.Stderr(), "ending"); i++ {
				if i == 1000 {
					t.Fatalf("the first signal has no effect: %s", p.Stderr())
				}
				time.Sleep(10 * time.Millisecond)
			}
			if err := p.Signal(sig); err != nil {
				t.Fatal(err)
			}
			time.Sleep(1200 * time.Millisecond)
			if p.HasExited() {
				t.Fatalf("it ended with a request in progress: %s", p.Stderr())
			}
			if err := p.Signal(sig); err != nil {
				t.Fatal(err)
			}
			var exit *exec.ExitError
			if err := p.Wait(10 * time.Second); !errors.As(err, &exit) || exit.ExitCode() != want {
				t.Errorf("it ends with %v, want exit code %d", err, want)
			}
			if !strings.Contains(p.Stderr(), "second signal") {
				t.Errorf("the error is %s", p.Stderr())
			}
		})
	}
}

// A server whose store does not answer ends within --stop-timeout.
func TestStopTimeout(t *testing.T) {
	store := start(t, "--store", "mem:")
	p := start(t, "--store", store.URL(), "--stop-timeout", "200ms")
	store.Kill()
	err := p.Stop(30 * time.Second)
	if err == nil || !strings.Contains(err.Error(), "exit status 1") || !strings.Contains(p.Stderr(), "--stop-timeout") {
		t.Errorf("%v: %s", err, p.Stderr())
	}
}
