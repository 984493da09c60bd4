package servercli_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/stores"
)

// TestReadOnlyCommands checks that the commands and programs that only read do all their work for a user who may only
// read, and that the server logs no refusal.
func TestReadOnlyCommands(t *testing.T) {
	dir := t.TempDir()
	users := filepath.Join(dir, "users")
	writer, _ := addToken(t, dir, users, "writer", "--rights", "read,append,change")
	reader, _ := addToken(t, dir, users, "reader", "--rights", "read")
	p := start(t, "--store", "log:"+dir+"/data", "--tokens-file", users)
	run := func(args ...string) {
		t.Helper()
		cmd := command("partd", args...)
		cmd.Stdin = strings.NewReader("of k")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("partd %q: %v: %s", args, err, out)
		}
	}
	run("append", "--store", p.URL()+"?token-file="+writer, "k")
	url := p.URL() + "?token-file=" + reader
	for _, words := range []string{"keys", "get k", "scan", "stat", "verify"} {
		name, rest, _ := strings.Cut(words, " ")
		run(append([]string{name, "--store", url}, strings.Fields(rest)...)...)
	}
	run("copy", "--quiet", "--from", url, "--to", "log:"+dir+"/copy")
	run("__complete", "get", "--store", url, "")
	store := must.Get(stores.Open(t.Context(), url))(t)
	must.Get(store.Get(t.Context(), "k"))(t)
	must.Do(t, partd.Close(t.Context(), store))
	if text := p.Stderr(); strings.Contains(text, "WARN") {
		t.Errorf("the server warns about commands that read: %s", text)
	}
	stop(t, p)
}

// TestRotation replaces all secrets of a server (tokens, its certificate and key) while clients
// work, and checks that no request fails, and that the old token is refused in the end.
func TestRotation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	users := filepath.Join(dir, "users")
	ca := must.Get(nettest.NewAuthority(dir, "authority"))(t)
	issue := func(name string, hosts ...string) nettest.Pair {
		pair := must.Get(ca.Issue(name, time.Hour, hosts...))(t)
		return *pair
	}
	pair, client := issue("server", "127.0.0.1"), issue("carol")
	credentials := map[string]string{"carol": "&cert=" + client.Cert + "&key=" + client.Key}
	addToken(t, dir, users, "carol", "--rights", "read,append", "--certificate")
	for _, user := range []string{"ann", "bob"} {
		file, _ := addToken(t, dir, users, user, "--rights", "read,append")
		credentials[user] = "&token-file=" + file
	}
	p := startChild(t, "server", "--listen", "tls://127.0.0.1:0", "--store", "log:"+dir+"/data", "--tls-cert", pair.Cert, "--tls-key", pair.Key,
		"--tls-client-ca", ca.File, "--tokens-file", users)
	open := func(credential string) (partd.Partd, error) {
		return stores.Open(t.Context(), p.URL()+"?ca="+ca.File+credential)
	}
	var mu sync.Mutex
	opened, requests := map[string]int{}, 0
	ctx, cancel := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	for user, credential := range credentials {
		workers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				store, err := open(credential)
				if err != nil {
					t.Errorf("%s cannot connect: %v", user, err)
					return
				}
				mu.Lock()
				opened[user]++
				mu.Unlock()
				for j := range 20 {
					err := store.Append(t.Context(), partd.Entry{Key: user, Value: fmt.Appendf(nil, "%d %d,", i, j)})
					_, getErr := store.Get(t.Context(), user)
					if err := errors.Join(err, getErr); err != nil {
						t.Errorf("%s: a request failed: %v", user, err)
					}
					mu.Lock()
					requests += 2
					mu.Unlock()
				}
				must.Check(t, partd.Close(t.Context(), store))
			}
		})
	}
	// waitForClients waits until all clients have connected with the credentials that are in their files now.
	waitForClients := func() {
		t.Helper()
		mu.Lock()
		old := map[string]int{"ann": opened["ann"], "bob": opened["bob"], "carol": opened["carol"]}
		mu.Unlock()
		must.Eventually(t, 20*time.Second, "some clients have not connected again", func() bool {
			mu.Lock()
			defer mu.Unlock()
			isNew := true
			for user, n := range old {
				isNew = isNew && opened[user] >= n+2
			}
			return isNew
		})
	}
	reloads := 0
	token := func(args ...string) string {
		t.Helper()
		code, out, errs := runCommand(t, nil, append([]string{"token"}, append(args, "--tokens-file", users)...)...)
		if code != 0 {
			t.Fatalf("token %q: exit code %d: %s", args, code, errs)
		}
		return out
	}
	reload := func() {
		t.Helper()
		reloads++
		must.Do(t, p.Signal(syscall.SIGHUP))
		for begin := time.Now(); strings.Count(p.Stderr(), "users reloaded") < reloads; time.Sleep(5 * time.Millisecond) {
			if time.Since(begin) > 20*time.Second {
				t.Fatalf("the server did not reload: %s", p.Stderr())
			}
		}
	}
	replace := func(file string, text string) {
		t.Helper()
		must.Do(t, os.WriteFile(file+".new", []byte(text), 0o600))
		must.Do(t, os.Rename(file+".new", file))
	}
	waitForClients()
	oldToken := must.Get(os.ReadFile(filepath.Join(dir, "ann.token")))(t)
	for range 3 {
		newTokens := map[string]string{"ann": token("rotate", "ann"), "bob": token("rotate", "bob")}
		reload()
		for user, text := range newTokens {
			replace(filepath.Join(dir, user+".token"), text)
		}
		newPair := issue("server", "127.0.0.1")
		for from, to := range map[string]string{newPair.Key: pair.Key, newPair.Cert: pair.Cert} {
			must.Do(t, os.Rename(from, to))
		}
		waitForClients()
		token("remove", "--old", "ann")
		token("remove", "--old", "bob")
		reload()
		waitForClients()
	}
	cancel()
	workers.Wait()
	if requests < 500 || len(strings.Split(strings.TrimSpace(token("list")), "\n")) != 3 {
		t.Errorf("%d requests, and the users are\n%s\nwant at least 500 requests, and one credential for each user", requests, token("list"))
	}
	replace(filepath.Join(dir, "old.token"), string(oldToken))
	if _, err := open("&token-file=" + filepath.Join(dir, "old.token")); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("connecting with a removed token = %v, want ErrPermission", err)
	}
	for _, args := range [][]string{{"remove", "--old", "ann"}, {"rotate", "carol"}, {"rotate", "nobody"}, {"rotate", "ann", "--namespace", "x"}} {
		if code, _, errs := runCommand(t, nil, append(append([]string{"token"}, args...), "--tokens-file", users)...); code != 1 || errs == "" {
			t.Errorf("token %q = exit code %d, %q, want 1 and an error", args, code, errs)
		}
	}
	stop(t, p)
}
