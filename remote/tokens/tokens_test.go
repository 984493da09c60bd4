package tokens

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd/remote"
)

func add(t *testing.T, file, user, namespace string, rights remote.Rights, byCert bool) (token string) {
	t.Helper()
	g, token, err := NewGrant(user, namespace, rights, byCert)
	if err != nil {
		t.Fatal(err)
	}
	if err := Edit(file, func(all []Grant) ([]Grant, error) { return append(all, g), nil }); err != nil {
		t.Fatal(err)
	}
	return token
}

func TestUsers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	all := add(t, file, "ann", AllNamespaces, remote.RightRead, false)
	one := add(t, file, "ann", "job7", remote.RightAppend, false)
	base := add(t, file, "bob", DefaultNamespace, remote.AllRights, false)
	add(t, file, "cert", "job7", remote.RightChange, true)
	u, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has the mode %v, %v", info.Mode(), err)
	}
	for _, c := range []struct {
		token, cert, user, namespace string
		want                         remote.Rights
	}{
		{all, "", "ann", "", remote.RightRead},
		{all, "", "ann", "job7", remote.RightRead},
		{one, "", "ann", "", 0},
		{one, "", "ann", "job7", remote.RightAppend},
		{base, "", "bob", "", remote.AllRights},
		{base, "", "bob", "job7", 0},
		{"", "cert", "cert", "job7", remote.RightChange},
		{"", "cert", "cert", "", 0},
		{"", "ann", "ann", "", 0},
		{"", "", "", "", 0},
		{all[:len(all)-1], "cert", "", "job7", 0},
		{"", "two words", "", "job7", 0},
	} {
		var certificate *x509.Certificate
		if c.cert != "" {
			certificate = &x509.Certificate{Subject: pkix.Name{CommonName: c.cert}}
		}
		who, err := u.Authenticate(c.token, certificate)
		if who.User != c.user || (err == nil) != (c.user != "") || u.Rights(who, c.namespace) != c.want {
			t.Errorf("%+v: %q with %v, %v", c, who.User, u.Rights(who, c.namespace), err)
		}
		if c.token != "" && strings.Contains(string(text), c.token) {
			t.Error("the file contains a token")
		}
	}
	who, err := u.Authenticate(base, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(header+"bob . read\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := u.Reload(); err == nil || u.Rights(who, "") != remote.AllRights {
		t.Errorf("a damaged file: %v, the user has %v", err, u.Rights(who, ""))
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := u.Reload(); err != nil || u.Rights(who, "") != 0 {
		t.Errorf("after a token was removed: %v, the user has %v", err, u.Rights(who, ""))
	}
}

func TestDamagedFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	g, secret, err := NewGrant("ann", AllNamespaces, remote.RightRead, false)
	if err != nil {
		t.Fatal(err)
	}
	good := g.String()
	for _, c := range []struct{ text, want string }{
		{good + "\n\n# a comment\n" + good[:len(good)-1] + "\n", "line 4: field 5"},
		{good + " more\n", "line 1: 6 fields"},
		{strings.Replace(good, "read", "rule", 1), "line 1: field 3"},
		{strings.Replace(good, "ann", "a/b", 1), "line 1: field 1"},
		{strings.Replace(good, "ann", secret, 1), "line 1: field 1"},
		{strings.Replace(good, "read", secret, 1), "line 1: field 3"},
		{strings.Replace(good, "*", "..", 1), "line 1: field 2"},
		{strings.Replace(good, "*", secret, 1), "line 1: field 2"},
		{strings.Repeat("x", 1<<20), "after line 0"},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(file); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), secret) {
			t.Errorf("%.60q: %v, want %s", c.text, err, c.want)
		}
		if err := Edit(file, func(all []Grant) ([]Grant, error) { return all, nil }); err == nil {
			t.Errorf("%.60q was edited", c.text)
		}
	}
	if err := os.Chmod(file, 0o622); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(file); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("a file with write access for others: %v", err)
	}
}

// Concurrent edits lose nothing, and a failed edit changes nothing.
func TestConcurrentEdits(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() { add(t, file, fmt.Sprint("user", i), AllNamespaces, remote.RightRead, false) })
	}
	wg.Wait()
	failed := errors.New("no")
	if err := Edit(file, func([]Grant) ([]Grant, error) { return nil, failed }); !errors.Is(err, failed) {
		t.Error(err)
	}
	if all, err := Read(file); err != nil || len(all) != 20 {
		t.Errorf("%d users, %v", len(all), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".tokens-*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestLongTokens checks that a text too long for a token is refused at once. Hashing it
// for each of many users would take seconds.
func TestLongTokens(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	add(t, file, "ann", AllNamespaces, remote.RightRead, false)
	u, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	k := u.grants.Load()
	for len(k.all) < 20_000 {
		k.all = append(k.all, k.all[0])
	}
	begin := time.Now()
	if _, err := u.Authenticate(strings.Repeat("x", 100<<10), nil); err == nil || time.Since(begin) > 500*time.Millisecond {
		t.Errorf("a token of 100 KiB: %v after %v", err, time.Since(begin))
	}
}

// TestLinkedFile edits the target of a link and keeps the link.
func TestLinkedFile(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	add(t, filepath.Join(dir, "users"), "ann", AllNamespaces, remote.RightRead, false)
	if err := os.Symlink("users", link); err != nil {
		t.Skip(err)
	}
	add(t, link, "bob", AllNamespaces, remote.RightRead, false)
	all, err := Read(filepath.Join(dir, "users"))
	if err != nil || len(all) != 2 {
		t.Errorf("the file has %d users, %v", len(all), err)
	}
}

// Users of a map are admitted with their tokens. Nobody is admitted with a certificate.
func TestMap(t *testing.T) {
	const etl, report = "0123456789abcdef", "a token of the reports"
	u, err := New(map[string]Grant{
		etl:    {User: "etl", Namespace: AllNamespaces, Rights: remote.RightRead | remote.RightAppend},
		report: {User: "report", Namespace: "job7", Rights: remote.RightRead},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Reload(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		token, namespace string
		want             remote.Rights
	}{
		{etl, "", remote.RightRead | remote.RightAppend},
		{report, "job7", remote.RightRead},
		{report, "", 0},
		{"0123456789abcdeF", "", 0},
		{"", "", 0},
	} {
		who, _ := u.Authenticate(c.token, nil)
		if got := u.Rights(who, c.namespace); got != c.want {
			t.Errorf("%q in %q: %v, want %v", c.token, c.namespace, got, c.want)
		}
	}
	who, err := u.Authenticate("", &x509.Certificate{Subject: pkix.Name{CommonName: "etl"}})
	if got := u.Rights(who, ""); err != nil || got != 0 {
		t.Errorf("a certificate has the rights %v, %v", got, err)
	}
	for label, bad := range map[string]map[string]Grant{
		"a short token":   {etl[1:]: {User: "a", Namespace: AllNamespaces, Rights: remote.RightRead}},
		"a long token":    {strings.Repeat("x", maxToken+1): {User: "a", Namespace: AllNamespaces, Rights: remote.RightRead}},
		"no name":         {etl: {Namespace: AllNamespaces, Rights: remote.RightRead}},
		"no rights":       {etl: {User: "a", Namespace: AllNamespaces}},
		"a bad namespace": {etl: {User: "a", Namespace: "..", Rights: remote.RightRead}},
	} {
		if _, err := New(bad); err == nil || strings.Contains(err.Error(), etl[1:]) {
			t.Errorf("%s: %v", label, err)
		}
	}
}
