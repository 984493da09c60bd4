package servercli_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
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
