package icecat

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/disk/vfs"
)

// TestKeys checks that keys are unique, that each scope keeps its newest keys, and that expired keys are forgotten.
func TestKeys(t *testing.T) {
	c, err := Open(t.Context(), t.TempDir(), Options{FS: vfs.OS{}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	defer func(n int) { maxKeys = n }(maxKeys)
	maxKeys = 3
	add := func(id, scope string) error {
		return c.AddKey(WithKey(t.Context(), &Key{ID: id, Scope: scope, Status: 204}))
	}
	known := func(ids ...string) (found string) {
		for _, id := range ids {
			k, err := c.Key(context.Background(), id, "")
			if err != nil {
				t.Fatal(err)
			}
			if k != nil {
				found += id
			}
		}
		return found
	}
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		if err := add(id, "one"); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(add("f", "two"), add("g", "two")); err != nil {
		t.Fatal(err)
	}
	if got := known("a", "b", "c", "d", "e", "f", "g"); got != "cdefg" {
		t.Errorf("the keys %q are known, want %q", got, "cdefg")
	}
	if err := add("f", "one"); !errors.Is(err, ErrKeyExists) {
		t.Errorf("a second key f: %v, want ErrKeyExists", err)
	}
	for id, age := range map[string]time.Duration{"c": KeyLifetime, "d": 2 * KeyLifetime} {
		if _, err := c.writes.ExecContext(t.Context(), `UPDATE partd_keys SET at_ms=? WHERE id=?`, time.Now().Add(-age).UnixMilli(), id); err != nil {
			t.Fatal(err)
		}
	}
	if err := add("h", "two"); err != nil {
		t.Fatal(err)
	}
	if got := known("c", "d", "e", "f", "g", "h"); got != "cefgh" {
		t.Errorf("the keys %q are known, want %q", got, "cefgh")
	}
}

// TestKeysOfOldCatalog checks that the first opening for writing adds the table of keys to a catalog of an earlier
// version, and that a failed transaction records no key.
func TestKeysOfOldCatalog(t *testing.T) {
	dir := t.TempDir()
	open := func() *Catalog {
		c, err := Open(t.Context(), dir, Options{FS: vfs.OS{}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open()
	if _, err := c.writes.ExecContext(t.Context(), `DROP TABLE partd_keys`); err != nil {
		t.Fatal(err)
	}
	c.database.readOnly = true
	if k, err := c.Key(t.Context(), "a", ""); k != nil || err != nil {
		t.Errorf("a reader got the key %v, error %v, want none", k, err)
	}
	c.database.readOnly = false
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = open()
	defer c.Close() //nolint:errcheck // nothing is pending
	for _, want := range []error{nil, ErrExists} {
		ctx := WithKey(t.Context(), &Key{ID: fmt.Sprint(want)})
		if err := c.CreateNamespace(ctx, "ns", nil); !errors.Is(err, want) {
			t.Errorf("CreateNamespace: %v, want %v", err, want)
		}
		if k, err := c.Key(t.Context(), fmt.Sprint(want), ""); (k != nil) != (want == nil) || err != nil {
			t.Errorf("after %v, the key is %v, error %v", want, k, err)
		}
	}
}

// TestExpiredKeys checks that a transaction after a pause, in which many keys expired, forgets only some of them.
func TestExpiredKeys(t *testing.T) {
	c, err := Open(t.Context(), t.TempDir(), Options{FS: vfs.OS{}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // nothing is pending
	if err := c.inTx(t.Context(), func(tx *transaction) {
		for i := range 250 {
			tx.exec(insertKey, fmt.Sprint(i), "", "one", i, 204, "", "", "")
		}
	}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{151, 52, 3, 4} {
		if err := c.AddKey(WithKey(t.Context(), &Key{ID: fmt.Sprint("new", i)})); err != nil {
			t.Fatal(err)
		}
		if ids, err := c.strings(t.Context(), `SELECT id FROM partd_keys`); len(ids) != want || err != nil {
			t.Errorf("after insertion %d, there are %d keys, error %v, want %d", i+1, len(ids), err, want)
		}
	}
}

// TestKeyOfMissingNamespace checks that dropping a namespace records the key even if another transaction has just
// dropped the namespace.
func TestKeyOfMissingNamespace(t *testing.T) {
	c, err := Open(t.Context(), t.TempDir(), Options{FS: vfs.OS{}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // nothing is pending
	if err := c.DropNamespace(WithKey(t.Context(), &Key{ID: "a"}), "ns"); err != nil {
		t.Fatal(err)
	}
	if k, err := c.Key(t.Context(), "a", ""); k == nil || err != nil {
		t.Errorf("the key is %v, error %v, want that it is recorded", k, err)
	}
}
