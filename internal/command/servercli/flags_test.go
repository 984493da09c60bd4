package servercli_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

func runCommand(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := command("server", args...)
	cmd.Env = append(cmd.Env, env...)
	cmd.Dir = t.TempDir()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	must.Do(t, cmd.Start())
	stuck := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	err := cmd.Wait()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// TestWrongUsage checks that wrong usage causes exit code 2 and an error with a hint.
func TestWrongUsage(t *testing.T) {
	t.Parallel()
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
		{"--listen udp://127.0.0.1:0", "", "tls://HOST:PORT or ipc:///PATH"},
		{"--listen tls://127.0.0.1:0", "", "--tls-cert"},
		{"--listen tls://0.0.0.0:0 --tls-cert c --tls-key k", "", "--tls-cert c"},
		{"--tls-key k", "", "must be used together"},
		{"--tls-cert c --tls-key k", "", "tls://HOST:PORT"},
		{"--tls-client-ca c", "", "--tls-cert"},
		{"--tokens-file missing", "", "token add"},
		{"--trust-sockets", "", "--tokens-file"},
		{"--namespace-ttl 1s", "", "a minute"},
		{"--store mem: --listen tcp://127.0.0.1:0=job7", "", "no namespaces"},
		{"--listen tcp://127.0.0.1:0=a/b", "", "64 letters"},
		{"token add ann --rights rule --tokens-file f", "", "read, append, change, admin"},
		{"token add ann --rights append,reed --tokens-file f", "", `unknown right "reed" (did you mean "read"?)`},
		{"token add ann --rights read", "", "--tokens-file"},
		{"token add a/b --rights read --tokens-file f", "", "letters"},
		{"--listen tcp://127.0.0.1", "", "tcp://HOST:PORT"},
		{"--listen tcp://127.0.0.1:nonsense", "", "not a port"},
		{"--store nonsense:x", "", "nonsense"},
		{"--store log:x?nonsense=1", "", "nonsense"},
		{"--max-message 1", "", "is too small"},
		{"--max-message -5", "", "--max-message"},
		{"--max-message 1GiB --memory 1GiB", "", "--memory"},
		{"--max-connections 0", "", "at least 1"},
		{"--max-connections many", "", "not a whole number"},
		{"--memory 1KiB", "", "is too small"},
		{"", "PARTD_SERVER_MEMORY=nonsense", "PARTD_SERVER_MEMORY"},
		{"--http 0.0.0.0:0", "", "--http-exposed"},
		{"--http 0.0.0.0:0 --http-exposed --listen tcp://0.0.0.0:0", "", "--insecure"},
		{"--http :0", "", "authentication"},
		{"--http 127.0.0.1", "", "HOST:PORT"},
		{"--http 127.0.0.1:nonsense", "", "not a port"},
		{"--pprof", "", "--http"},
		{"--max-bytes 1", "", "is too small"},
		{"--max-bytes 1MiB --listen tcp://127.0.0.1:0", "", "at least 2.0 MiB"},
		{"--namespace-max-bytes 1MiB --listen tcp://127.0.0.1:0", "", "at least 2.0 MiB"},
		{"--min-free -1", "", "--min-free"},
		{"--stop-timeout -1s", "", "0 or more"},
		{"--log-format xml", "", "text or json"},
		{"", "PARTD_SERVER_ALLOW_CLOSE=perhaps", "not true or false"},
		{"--nonsense", "", "unknown flag --nonsense"},
		{"-x", "", "unknown flag -x"},
		{"--store", "", "needs a value"},
		{"nonsense", "", "nonsense"},
		{"completion nonsense", "", "bash, zsh"},
	} {
		t.Run(c.args+c.env, func(t *testing.T) {
			code, out, errs := runCommand(t, []string{c.env}, strings.Fields(c.args)...)
			if code != 2 || out != "" || !strings.Contains(errs, c.words) || !strings.Contains(errs, "--help") {
				t.Errorf("exit code %d, output %q, error %q, want 2 and %q", code, out, errs, c.words)
			}
		})
	}
}

func TestHelpVersionAndCompletion(t *testing.T) {
	_, help, _ := runCommand(t, nil, "--help")
	for _, words := range []string{
		"--listen", "--store", "--max-message", "--max-connections", "--memory", "--allow-close", "--log-format", "--insecure",
		"PARTD_SERVER_LISTEN", "PARTD_SERVER_STORE", "PARTD_SERVER_MAX_MESSAGE", "PARTD_SERVER_MAX_CONNECTIONS", "PARTD_SERVER_MEMORY",
		"--max-bytes", "--min-free", "--http", "--pprof", "--exit-on-stdin-close", "--stop-timeout", "PARTD_SERVER_ALLOW_CLOSE", "PARTD_SERVER_LOG_FORMAT", "PARTD_SERVER_INSECURE",
		"tcp://127.0.0.1:7077", "log:partd-data", "256MiB", "Examples:", "Exit codes",
	} {
		if !strings.Contains(help, words) {
			t.Errorf("the help lacks %q", words)
		}
	}
	for _, args := range [][]string{{"version"}, {"--version"}} {
		if code, out, _ := runCommand(t, nil, args...); code != 0 || !strings.HasPrefix(out, "partd-server ") {
			t.Errorf("partd-server %s: exit code %d, output %q, want 0 and the version", args, code, out)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if code, out, _ := runCommand(t, nil, "completion", shell); code != 0 || !strings.Contains(out, "partd-server") {
			t.Errorf("partd-server completion %s: exit code %d, %d bytes of output, want 0 and a script", shell, code, len(out))
		}
	}
	if _, out, _ := runCommand(t, nil, "__complete", "--log-format", ""); !strings.HasPrefix(out, "text\njson\n") {
		t.Errorf("the completions of --log-format are %q, want text and json", out)
	}
}

// TestCannotStart checks that errors of the environment cause exit code 1.
func TestCannotStart(t *testing.T) {
	busy := must.Get(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer busy.Close()
	foreignDir := t.TempDir()
	must.Do(t, os.WriteFile(filepath.Join(foreignDir, "somebody's"), []byte("file"), 0o600))
	for _, c := range []struct{ name, args, words string }{
		{"address in use", "--listen tcp://" + busy.Addr().String(), "in use"},
		{"no directory for the socket", "--listen ipc:///nonexistent/partd.sock", "/nonexistent"},
		{"socket is a file", "--listen ipc://" + foreignDir + "/somebody's", "not a socket"},
		{"no directory for the audit log", "--listen tcp://127.0.0.1:0 --store mem: --audit-log /nonexistent/audit", "--audit-log"},
		{"directory is not a store", "--listen tcp://127.0.0.1:0 --store file:" + foreignDir, "not a partd store"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := runCommand(t, nil, strings.Fields(c.args)...)
			if code != 1 || out != "" || !strings.Contains(errs, c.words) {
				t.Errorf("exit code %d, output %q, error %q, want 1 and %q", code, out, errs, c.words)
			}
		})
	}
	if text, err := os.ReadFile(filepath.Join(foreignDir, "somebody's")); err != nil || string(text) != "file" {
		t.Errorf("the foreign file contains %q (error %v), want it unchanged", text, err)
	}
}

// TestPackaging checks the options in the systemd unit, the container file and the sample for Kubernetes, and the
// security scores of this unit and the one for partd-tables.
func TestPackaging(t *testing.T) {
	_, help, _ := runCommand(t, nil, "--help")
	for _, file := range []string{"../../../packaging/partd-server.service", "../../../packaging/Containerfile", "../../../packaging/kubernetes/partd-server.yaml"} {
		text := must.Get(os.ReadFile(file))(t)
		names := regexp.MustCompile(`PARTD_SERVER_[A-Z_]+`).FindAllString(string(text), -1)
		if len(names) < 3 {
			t.Errorf("%s sets the variables %s, want at least 3", file, names)
		}
		for _, name := range names {
			if !strings.Contains(help, name) {
				t.Errorf("%s sets %s, which is not an option of the server", file, name)
			}
		}
	}
	_, err := exec.LookPath("systemd-analyze")
	require(t, err == nil, "systemd-analyze")
	for _, unit := range []string{"partd-server", "partd-tables"} {
		out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=30", "../../../packaging/"+unit+".service").CombinedOutput()
		if err != nil {
			t.Errorf("systemd-analyze security %s: %v: %s", unit, err, out)
		}
	}
}
