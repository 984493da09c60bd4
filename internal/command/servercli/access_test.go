package servercli_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/server/audit"
	"github.com/go-partd/partd/internal/testutil/hostile"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/stores"
)

// addToken runs "token add" with args, which begin with the user's name, and writes the token to a file in dir.
func addToken(t *testing.T, dir, users string, args ...string) (file, token string) {
	t.Helper()
	code, out, errs := runCommand(t, nil, append([]string{"token", "add", "--tokens-file", users}, args...)...)
	if code != 0 {
		t.Fatalf("token add %q: %s", args, errs)
	}
	file = filepath.Join(dir, args[0]+".token")
	must.Do(t, os.WriteFile(file, []byte(out), 0o600))
	return file, strings.TrimSpace(out)
}

// TestUnwrittenToken checks that a token that cannot be printed is not added.
func TestUnwrittenToken(t *testing.T) {
	dir := t.TempDir()
	users := filepath.Join(dir, "users")
	addToken(t, dir, users, "etl", "--rights", "read")
	before := must.Get(os.ReadFile(users))(t)
	readOnly := must.Get(os.Open(os.DevNull))(t)
	defer readOnly.Close()
	for _, args := range []string{"add report --rights read", "rotate etl"} {
		cmd := command("server", append([]string{"token"}, strings.Fields(args+" --tokens-file "+users)...)...)
		cmd.Stdout = readOnly
		if err := cmd.Run(); cmd.ProcessState.ExitCode() != cliutil.ExitFailed {
			t.Errorf("token %s without a writable output: %v, want exit code %d", args, err, cliutil.ExitFailed)
		}
		if after := must.Get(os.ReadFile(users))(t); string(after) != string(before) {
			t.Errorf("token %s, whose token was not printed, changed the users to %s", args, after)
		}
	}
}

// TestUsers checks a server with TLS, users and namespaces: clients access it by URLs, and its log
// contains no secrets. TestRotation covers reloading.
func TestUsers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := t.TempDir()
	users := filepath.Join(dir, "users")
	ca := must.Get(nettest.NewAuthority(dir, "authority"))(t)
	pair := must.Get(ca.Issue("server", time.Hour, "127.0.0.1"))(t)
	client := must.Get(ca.Issue("carol", time.Hour))(t)
	writer, token := addToken(t, dir, users, "writer", "--rights", "append,read,change", "--namespace", "job7")
	admin, _ := addToken(t, dir, users, "admin", "--rights", "admin,read")
	addToken(t, dir, users, "carol", "--rights", "read", "--certificate", "--namespace", "job7")
	socket := filepath.Join(dir, "s")
	p := startChild(t, "server", "--listen", "tls://127.0.0.1:0", "--listen", "ipc://"+socket+"=job7", "--trust-sockets", "--store", "log:"+dir+"/data",
		"--tls-cert", pair.Cert, "--tls-key", pair.Key, "--tls-client-ca", ca.File, "--tokens-file", users)
	url := p.URL()
	if !strings.HasPrefix(url, "tls://") {
		t.Fatalf("the server's URL is %s, want one with tls://", url)
	}
	open := func(rest string) (partd.Partd, error) { return stores.Open(ctx, url+rest+"&ca="+ca.File) }
	job7 := must.Get(open("/job7?token-file=" + writer))(t)
	must.Do(t, job7.Append(ctx, partd.Entry{Key: "k", Value: []byte("of job7")}))
	byCert := must.Get(open("/job7?cert=" + client.Cert + "&key=" + client.Key))(t)
	if values, err := byCert.Get(ctx, "k"); err != nil || string(values[0]) != "of job7" {
		t.Errorf("Get(k) with a client certificate = %q, %v, want the value of job7", values, err)
	}
	for _, options := range []string{"?token-file=" + writer, "/job8?token-file=" + writer, "?insecure=true", "/job8?cert=" + client.Cert + "&key=" + client.Key} {
		if store, err := open(strings.Replace(options, "?insecure=true", "?token-file="+users, 1)); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("opening the store with %s: %v, error %v, want ErrPermission", options, store, err)
		}
	}
	if _, err := os.Stat(dir + "/data/namespaces/job8"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a user without rights created a namespace: Stat returned %v, want ErrNotExist", err)
	}
	python := must.Get(hostile.Open(ctx, "unix", socket, 10*time.Second))(t)
	defer python.Close()
	if err := python.Ask([]string{"of job7"}, "get", "k"); err != nil {
		t.Errorf("get through the socket of a namespace: %v", err)
	}
	admins := must.Get(open("?token-file=" + admin))(t)
	list, err := admins.(*remote.Client).Namespaces(ctx)
	if err != nil || len(list) != 1 || list[0].Name != "job7" || list[0].DiskBytes == 0 {
		t.Errorf("Namespaces() = %+v, %v, want job7 with its size", list, err)
	}
	if values, err := admins.Get(ctx, "k"); err != nil || len(values[0]) > 0 {
		t.Errorf("Get(k) in the default namespace = %q, %v, want an empty value", values, err)
	}

	if text := p.Stderr(); strings.Contains(text, token) {
		t.Errorf("the log contains a token: %s", text)
	}
	for _, store := range []partd.Partd{job7, byCert, admins} {
		_ = partd.Close(context.WithoutCancel(ctx), store)
	}
}

// waitFor waits until the server's log contains words.
func waitFor(t *testing.T, p *procs.Server, words string) {
	t.Helper()
	for begin := time.Now(); !strings.Contains(p.Stderr(), words); time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > 20*time.Second {
			t.Fatalf("the server did not log %q within 20 seconds: %s", words, p.Stderr())
		}
	}
}

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
