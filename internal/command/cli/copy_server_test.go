package cli

import (
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/remote"
	"github.com/go-partd/partd/stores"
)

// serve runs a server for a store, with two addresses, until the end of the test.
func serve(t *testing.T, store partd.Partd) (first, second string) {
	t.Helper()
	server, err := remote.NewServer(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	var urls []string
	done := make(chan error, 2)
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		urls = append(urls, remote.URL(l.Addr()))
		go func() { done <- server.Serve(context.Background(), l) }()
	}
	t.Cleanup(func() {
		if err := errors.Join(server.Shutdown(context.Background()), <-done, <-done); err != nil {
			t.Error(err)
		}
	})
	return urls[0], urls[1]
}

func partdCopy(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	a := &app{out: &out, err: &errs, open: stores.OpenWithDefaults}
	code = run(t.Context(), append([]string{"copy"}, args...), a)
	return code, out.String(), errs.String()
}

func valueOf(t *testing.T, url, key string) string {
	t.Helper()
	store, err := stores.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	values, err := store.Get(t.Context(), key)
	if err = errors.Join(err, partd.Close(t.Context(), store)); err != nil {
		t.Fatal(err)
	}
	return string(values[0])
}

func TestCopyServers(t *testing.T) {
	a, _ := serve(t, partd.NewDict())
	b, _ := serve(t, partd.NewDict())
	dir := t.TempDir()
	text := strings.Repeat("a longer text, ", 10_000)
	fillStore(t, "zlib+file:"+dir+"/A", partd.Entry{Key: "", Value: []byte("empty key")}, partd.Entry{Key: "key", Value: []byte(text)})
	path := []string{"zlib+file:" + dir + "/A", "snappy+" + a, "zstd+blosc+" + b, "bz2+buffer+log:" + dir + "/B"}
	var checksum string
	for i := range path[1:] {
		code, out, errs := partdCopy(t, "--from", path[i], "--to", path[i+1])
		if code != 0 || !strings.Contains(out, "result    both stores have the same keys and values") {
			t.Fatalf("copy from %s to %s: exit code %d, %s", path[i], path[i+1], code, errs)
		}
		_, sum, _ := strings.Cut(out, "checksum  ")
		sum, _, _ = strings.Cut(sum, "\n")
		if checksum == "" {
			checksum = sum
		}
		if sum != checksum || len(sum) < 20 {
			t.Errorf("copy from %s to %s: the checksum is %q, want %q", path[i], path[i+1], sum, checksum)
		}
	}
	last := path[len(path)-1]
	if valueOf(t, last, "key") != text || valueOf(t, last, "") != "empty key" {
		t.Error("the last store lacks the value of \"key\" or of the empty key, or has another value")
	}
}

// TestCopyOntoItself checks that copy refuses to copy a store to itself, even by another URL, because that would
// drop or duplicate its content.
func TestCopyOntoItself(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	slow, err := partd.OpenFile(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	buffer, err := partd.NewBuffer(partd.NewDict(), slow, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := buffer.Close(); err != nil {
			t.Error(err)
		}
	})
	first, second := serve(t, buffer)
	fillStore(t, "snappy+"+first, partd.Entry{Key: "k", Value: []byte("value")})
	if err := buffer.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{first, first},
		{"snappy+" + first, "zstd+" + second},
		{"snappy+" + second, "snappy+file:" + dir},
		{"snappy+file:" + dir, "buffer+zlib+" + first},
	} {
		for _, flag := range []string{"--replace", "--append"} {
			code, out, errs := partdCopy(t, "--from", c[0], "--to", c[1], flag)
			if code == 0 || out != "" || !strings.Contains(errs, "the same") {
				t.Errorf("copy from %s to %s %s: exit code %d, output %s%s, want an error about the same store", c[0], c[1], flag, code, out, errs)
			}
			if strings.Contains(errs, "--replace") {
				t.Errorf("copy from %s to %s %s: the message recommends a command that loses all data: %s", c[0], c[1], flag, errs)
			}
			if got := valueOf(t, "snappy+"+first, "k"); got != "value" {
				t.Fatalf("copy from %s to %s %s changed the value to %q", c[0], c[1], flag, got)
			}
			store, err := stores.Open(t.Context(), first)
			if err != nil {
				t.Fatal(err)
			}
			for info, err := range partd.Keys(t.Context(), store) {
				if err != nil || info.Key != "k" {
					t.Errorf("Keys yields %q (error %v), want only k", info.Key, err)
				}
			}
			if err := partd.Close(t.Context(), store); err != nil {
				t.Fatal(err)
			}
		}
	}
}
