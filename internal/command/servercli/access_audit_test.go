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
	"github.com/go-partd/partd/internal/testutil/hostile"
	"github.com/go-partd/partd/internal/testutil/must"
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
	store := must.Get(stores.Open(ctx, p.URL()+"/job7?token-file="+tokenFile))(t)
	must.Do(t, store.Append(ctx, partd.Entry{Key: "secretkey1", Value: []byte("secretvalue")}, partd.Entry{Key: "secretkey2", Value: []byte("v")}))
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) { // records are written a little later
		if text, err := os.ReadFile(file); err != nil || strings.Contains(string(text), "append") || time.Since(begin) > 20*time.Second {
			break
		}
	}
	must.Do(t, os.Rename(file, file+".1"))
	must.Do(t, p.Signal(syscall.SIGHUP))
	waitFor(t, p, "users reloaded")
	must.Get(store.Get(ctx, "secretkey1", "secretkey2", "k3"))(t)
	if err := partd.Delete(ctx, store, "secretkey1"); err == nil {
		t.Error("a user without the right change deleted a key")
	}
	if _, err := remote.Dial(ctx, p.URL(), &remote.ClientOptions{Token: token + "x"}); err == nil {
		t.Error("a wrong token was accepted")
	}
	python := must.Get(hostile.Open(ctx, "unix", dir+"/s", time.Minute))(t)
	must.Do(t, python.Ask([]string{"ack"}, "append", "secretkey", "v", "k2", "v"))
	must.Do(t, python.Send("secretcommand"))
	must.Get(python.Receive())(t)
	_ = store.(*remote.Client).Close()
	_ = python.Close()
	stop(t, p)

	type outcome struct {
		User, Namespace, Operation string
		Keys                       int64
		Outcome                    string
	}
	seen := map[outcome]int{}
	for name, first := range map[string]string{file + ".1": "hello", file: "get"} {
		text := must.Get(os.ReadFile(name))(t)
		if pythons := `"operation":"append","keys":2,"received":19,"sent":5,`; strings.Contains(string(text), pythons) != (name == file) {
			t.Errorf("%s contains %s: %v, want %v: %s", name, pythons, name != file, name == file, text)
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
		{"", "", "append", 2, "ok"},
		{"", "", "unknown", 0, "failed"},
	} {
		if seen[want] != 1 {
			t.Errorf("%d records of %+v, want 1; all are %v", seen[want], want, seen)
		}
	}
}
