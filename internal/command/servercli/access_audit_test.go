package servercli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/server/audit"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/stores"
)

// TestAudit checks the audit log: it names the users, operations and outcomes of clients, but no keys, values and
// tokens, and it is opened again on SIGHUP.
func TestAudit(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	users, file := filepath.Join(dir, "users"), filepath.Join(dir, "audit")
	tokenFile, token := addToken(t, dir, users, "ann", "--rights", "read,append", "--namespace", "job7")
	p := startChild(t, "server", "--listen", "tcp://127.0.0.1:0", "--listen", "ipc://"+dir+"/s", "--trust-sockets", "--store", "log:"+dir+"/data",
		"--tokens-file", users, "--audit-log", file)
	store, err := stores.Open(ctx, p.URL()+"/job7?token-file="+tokenFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Append(ctx, partd.Entry{Key: "secretkey1", Value: []byte("secretvalue")}, partd.Entry{Key: "secretkey2", Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) { // records are written a little later
		if text, err := os.ReadFile(file); err != nil || strings.Contains(string(text), "append") || time.Since(begin) > 20*time.Second {
			break
		}
	}
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	waitFor(t, p, "users reloaded")
	if _, err := store.Get(ctx, "secretkey1", "secretkey2", "k3"); err != nil {
		t.Fatal(err)
	}
	if err := partd.Delete(ctx, store, "secretkey1"); err == nil {
		t.Error("a user without the right change deleted a key")
	}
	if _, err := remote.Dial(ctx, p.URL(), &remote.ClientOptions{Token: token + "x"}); err == nil {
		t.Error("a wrong token was accepted")
	}
	python, err := stores.Open(ctx, "ipc://"+dir+"/s")
	if err != nil {
		t.Fatal(err)
	}
	if err := python.Append(ctx, partd.Entry{Key: "k", Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	_ = store.(*remote.Client).Close()
	_ = python.(*remote.Client).Close()
	stop(t, p)

	type outcome struct {
		User, Namespace, Operation string
		Keys                       int64
		Outcome                    string
	}
	seen := map[outcome]int{}
	for name, first := range map[string]string{file + ".1": "hello", file: "get"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
			var r audit.Entry
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("%s: %v: %s", name, err, line)
			}
			if r.Host == "" || !strings.Contains(r.RequestID, "-") || r.Received == 0 || time.Since(r.Time) > time.Minute {
				t.Errorf("the record lacks the host, the id, the time or bytes: %s", line)
			}
			if i == 0 && r.Operation != first {
				t.Errorf("%s begins with the operation %s, want %s", name, r.Operation, first)
			}
			seen[outcome{r.User, r.Namespace, r.Operation, r.Keys, r.Outcome}]++
		}
		for _, secret := range []string{"secret", token} {
			if strings.Contains(string(text), secret) {
				t.Errorf("the audit log contains %q: %s", secret, text)
			}
		}
	}
	for _, want := range []outcome{
		{"ann", "job7", "hello", 0, "ok"},
		{"ann", "job7", "append", 2, "ok"},
		{"ann", "job7", "get", 3, "ok"},
		{"ann", "job7", "delete", 1, "denied"},
		{"", "", "hello", 0, "denied"},
		{"", "", "append", 1, "ok"},
	} {
		if seen[want] != 1 {
			t.Errorf("%d records of %+v, want 1; all are %v", seen[want], want, seen)
		}
	}
}

// TestAuditPython checks the records of requests of Python's protocol.
func TestAuditPython(t *testing.T) {
	p := start(t, "--store", "mem:", "--audit-log", "-")
	peer := openPeer(t, p)
	if err := peer.Ask([]string{"ack"}, "append", "secretkey", "v", "k2", "v"); err != nil {
		t.Fatal(err)
	}
	if err := peer.Send("secretcommand"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, p, `"operation":"append","keys":2,"received":19,"sent":5,`)
	waitFor(t, p, `"operation":"unknown","received":13,`)
	for line := range strings.Lines(p.Stderr()) {
		if strings.HasPrefix(line, "{") && strings.Contains(line, "secret") {
			t.Errorf("a record contains a key or the client's text: %s", line)
		}
	}
	stop(t, p)
}

// TestAuditFullDisk checks that a server reports that it cannot write its audit log, and goes on.
func TestAuditFullDisk(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("there is no /dev/full")
	}
	p := start(t, "--store", "mem:", "--audit-log", "/dev/full")
	ctx, c := boundedContext(t, 0), dialServer(t, p)
	for range 10 {
		if err := c.Append(ctx, partd.Entry{Key: "k", Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, p, "requests are missing in the audit log")
	if code, _, errs := runCommand(t, nil, "--store", "mem:", "--listen", "tcp://127.0.0.1:0", "--audit-log", t.TempDir()+"/none/audit"); code != 1 || !strings.Contains(errs, "--audit-log") {
		t.Errorf("an audit log in a missing directory: exit code %d, %s, want 1 and the flag", code, errs)
	}
	stop(t, p)
}

// TestHealth checks the exit codes of partd-server health.
func TestHealth(t *testing.T) {
	ready := start(t, "--store", "mem:", "--http", "0.0.0.0:0", "--http-exposed")
	full := start(t, "--store", "log:"+t.TempDir(), "--http", "127.0.0.1:0", "--min-free", "1EiB")
	addressOf := func(url string) string { return strings.TrimPrefix(url, "http://") }
	_, port, _ := strings.Cut(strings.TrimPrefix(adminURL(t, ready), "http://[::]"), ":")
	for _, c := range []struct {
		args  []string
		code  int
		words string
	}{
		{[]string{"--http", "0.0.0.0:" + port}, 0, ""},
		{[]string{"--http", addressOf(adminURL(t, full))}, 1, "must stay free"},
		{[]string{"--http", addressOf(adminURL(t, full)), "--live"}, 0, ""},
		{[]string{"a", "b"}, 2, "b"},
	} {
		code, out, errs := runCommand(t, nil, append([]string{"health"}, c.args...)...)
		if code != c.code || !strings.Contains(errs, c.words) || (out == "ok\n") != (code == 0) {
			t.Errorf("health %q = exit code %d, %q, %q, want %d and %q", c.args, code, out, errs, c.code, c.words)
		}
	}
	if code, _, errs := runCommand(t, nil, "--store", "mem:", "--http", "0.0.0.0:0"); code != 2 || !strings.Contains(errs, "--http-exposed") {
		t.Errorf("--http for other machines: exit code %d, %s, want 2 and the flag --http-exposed", code, errs)
	}
	if code, _, errs := runCommand(t, nil, "--store", "mem:", "--http", "0.0.0.0:0", "--http-exposed", "--listen", "tcp://0.0.0.0:0"); code != 2 || !strings.Contains(errs, "--insecure") {
		t.Errorf("--listen for other machines with --http-exposed: exit code %d, %s, want 2 and the flag --insecure", code, errs)
	}
	stop(t, ready)
	stop(t, full)
}
