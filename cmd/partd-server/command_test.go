package main

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/hostile"
	"github.com/go-partd/partd/internal/serverproc"
)

// says runs the command until it ends, and returns its exit code and what it
// wrote.
func says(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := command("server", args...)
	cmd.Env = append(cmd.Env, env...)
	cmd.Dir = t.TempDir()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	err := cmd.Wait()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// Wrong usage ends with 2, before anything is made, and says what to do.
func TestWrongUsage(t *testing.T) {
	for _, c := range []struct {
		args, env string
		words     string
	}{
		{"--listen tcp://0.0.0.0:0", "", "--insecure"},
		{"--listen tcp://*:0", "", "other machines"},
		{"--listen tcp://:0", "", "ssh -L"},
		{"--listen tcp://[::]:0", "", "authentication"},
		{"--listen tcp://192.0.2.1:0", "", "--insecure"},
		{"", "PARTD_SERVER_LISTEN=tcp://127.0.0.1:0 tcp://0.0.0.0:0", "--insecure"},
		{"--listen udp://127.0.0.1:0", "", "tcp://HOST:PORT or ipc:///PATH"},
		{"--listen tcp://127.0.0.1", "", "tcp://HOST:PORT"},
		{"--listen tcp://127.0.0.1:nonsense", "", "no port"},
		{"--store nonsense:x", "", "nonsense"},
		{"--store log:x?nonsense=1", "", "nonsense"},
		{"--max-message 1", "", "too little"},
		{"--max-message -5", "", "--max-message"},
		{"--max-message 1GiB --memory 1GiB", "", "--memory"},
		{"--max-connections 0", "", "at least 1"},
		{"--max-connections many", "", "no whole number"},
		{"--memory 1KiB", "", "too little"},
		{"", "PARTD_SERVER_MEMORY=nonsense", "PARTD_SERVER_MEMORY"},
		{"--log-format xml", "", "text and json"},
		{"", "PARTD_SERVER_ALLOW_CLOSE=perhaps", "neither true nor false"},
		{"--nonsense", "", "no flag --nonsense"},
		{"-x", "", "no flag -x"},
		{"--store", "", "needs a value"},
		{"nonsense", "", "nonsense"},
		{"completion nonsense", "", "bash, zsh"},
	} {
		t.Run(c.args+c.env, func(t *testing.T) {
			code, out, errs := says(t, []string{c.env}, strings.Fields(c.args)...)
			if code != 2 || out != "" || !strings.Contains(errs, c.words) || !strings.Contains(errs, "--help") {
				t.Errorf("exit code %d, output %q, and it says %q, want 2 and %q", code, out, errs, c.words)
			}
		})
	}
}

func TestHelpVersionAndCompletion(t *testing.T) {
	_, help, _ := says(t, nil, "--help")
	for _, words := range []string{
		"--listen", "--store", "--max-message", "--max-connections", "--memory", "--allow-close", "--log-format", "--insecure",
		"PARTD_SERVER_LISTEN", "PARTD_SERVER_STORE", "PARTD_SERVER_MAX_MESSAGE", "PARTD_SERVER_MAX_CONNECTIONS", "PARTD_SERVER_MEMORY",
		"PARTD_SERVER_ALLOW_CLOSE", "PARTD_SERVER_LOG_FORMAT", "PARTD_SERVER_INSECURE",
		"tcp://127.0.0.1:7077", "log:partd-data", "256MiB", "Examples:", "Exit codes",
	} {
		if !strings.Contains(help, words) {
			t.Errorf("the help does not say %q", words)
		}
	}
	for _, args := range [][]string{{"version"}, {"--version"}} {
		if code, out, _ := says(t, nil, args...); code != 0 || !strings.HasPrefix(out, "partd-server ") {
			t.Errorf("%s: exit code %d, %q", args, code, out)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if code, out, _ := says(t, nil, "completion", shell); code != 0 || !strings.Contains(out, "partd-server") {
			t.Errorf("completion for %s: exit code %d, %d bytes", shell, code, len(out))
		}
	}
	if _, out, _ := says(t, nil, "__complete", "--log-format", ""); !strings.HasPrefix(out, "text\njson\n") {
		t.Errorf("--log-format is completed with %q", out)
	}
}

// What is wrong with the machine ends with 1.
func TestCannotStart(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "somebody's"), []byte("file"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, args, words string }{
		{"address in use", "--listen tcp://" + busy.Addr().String(), "in use"},
		{"no directory for the socket", "--listen ipc:///nonexistent/partd.sock", "/nonexistent"},
		{"socket is a file", "--listen ipc://" + full + "/somebody's", "no socket"},
		{"store is no store", "--listen tcp://127.0.0.1:0 --store file:" + full, "no partd store"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := says(t, nil, strings.Fields(c.args)...)
			if code != 1 || out != "" || !strings.Contains(errs, c.words) {
				t.Errorf("exit code %d, output %q, and it says %q, want 1 and %q", code, out, errs, c.words)
			}
		})
	}
	if text, err := os.ReadFile(filepath.Join(full, "somebody's")); err != nil || string(text) != "file" {
		t.Errorf("the file is now %q, %v", text, err)
	}
}

// Several addresses, a free port and a socket, each ready, each served, and the
// default store beside the process. A second server cannot have the same.
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
	code, _, errs := says(t, nil, "--listen", "ipc://"+dir+"/s.sock", "--store", "mem:")
	if code != 1 || !strings.Contains(errs, "in use") {
		t.Errorf("a second server on the socket: exit code %d, %s", code, errs)
	}
	code, _, errs = says(t, nil, "--listen", "tcp://127.0.0.1:0", "--store", "log:"+dir+"/partd-data")
	if code != 1 || !strings.Contains(errs, "partd-data") {
		t.Errorf("a second server on the store: exit code %d, %s", code, errs)
	}
	stop(t, p)
	if _, err := os.Stat(dir + "/s.sock"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket stays: %v", err)
	}
	for line := range strings.Lines(p.Stderr()) {
		if !strings.HasPrefix(line, `{"time":`) {
			t.Errorf("with --log-format json it logs %q", line)
		}
	}
}

// A socket that a killed server left is taken over.
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

// Every flag can be given by the environment, and the command line goes first.
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
		t.Error("a second connection is served, though there may be one")
	}
	if err := peer.Ask([]string{"ack"}, "append", "k", "v"); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(dir + "/data/k"); err != nil || string(text) != "v" {
		t.Errorf("the store holds %q, %v", text, err)
	}
	if err := peer.Ask([]string{"ack"}, "close"); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(30 * time.Second); err != nil {
		t.Fatalf("after close: %v\n%s", err, p.Stderr())
	}
	if !strings.HasPrefix(p.Stderr(), `{"time":`) {
		t.Errorf("it logs %q", p.Stderr())
	}
}

// A signal lets requests under way end, and keeps what was acknowledged; the exit
// code is 0.
func TestSignalDrains(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			dir := t.TempDir() + "/data"
			// What a buffer holds back must be in the directory afterwards.
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
				t.Errorf("%d appends were acknowledged, %d are there: %v", acked, len(text), err)
			}
			if acked < 1000 {
				t.Errorf("only %d appends were acknowledged", acked)
			}
		})
	}
}

// A second signal ends the process at once, with the code that shells give it.
// What holds the first up is an append that waits for another process's lock.
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
			time.Sleep(200 * time.Millisecond)
			if p.Ended() {
				t.Fatalf("it ended with a request under way: %s", p.Stderr())
			}
			if err := p.Signal(sig); err != nil {
				t.Fatal(err)
			}
			var exit *exec.ExitError
			if err := p.Wait(10 * time.Second); !errors.As(err, &exit) || exit.ExitCode() != want {
				t.Errorf("it ends with %v, want exit code %d", err, want)
			}
			if !strings.Contains(p.Stderr(), "second signal") {
				t.Errorf("it says %s", p.Stderr())
			}
		})
	}
}
