package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/shards"
)

// bottom returns the store beneath all layers, to look at.
func bottom(store partd.Partd) partd.Partd {
	for store = range partd.Layers(store) {
	}
	return store
}

// otherStore makes sure that the target, which holds keys, is not the source under
// another name: a server has several addresses, and a directory behind it. Where
// there is a server it puts a key into the target, looks for it in the source,
// and removes it.
func otherStore(ctx context.Context, to, from partd.Partd, toURL, fromURL string) (err error) {
	if !isServer(fromURL) && !isServer(toURL) {
		return nil // the directories were compared
	}
	if err := noShardOf(ctx, bottom(to), bottom(from), toURL, fromURL); err != nil {
		return err
	}
	// Nobody has a key that ends like this.
	key := "partd copy looks whether two stores are one " + rand.Text()
	if err := to.Append(ctx, partd.Entry{Key: key, Value: []byte("x")}); err != nil {
		return err
	}
	defer func() {
		if e := partd.Delete(context.WithoutCancel(ctx), to, key); e != nil {
			err = errors.Join(err, fmt.Errorf("the test key %q is left in %s: %w", key, toURL, e))
		}
	}()
	if err := flush(ctx, to); err != nil {
		return err
	}
	found, err := bottom(from).Get(ctx, key)
	if err == nil && len(found[0]) > 0 {
		err = fmt.Errorf("%s and %s are the same store: there is nothing to copy", fromURL, toURL)
	}
	return err
}

// noShardOf makes sure that of two stores neither is a shard of the other, where a key
// may be on another one.
func noShardOf(ctx context.Context, a, b partd.Partd, aURL, bURL string) error {
	all, one := a, b
	if _, ok := all.(*shards.Shards); !ok {
		all, one, aURL, bURL = b, a, bURL, aURL
	}
	s, ok := all.(*shards.Shards)
	if _, both := one.(*shards.Shards); !ok || both {
		return nil
	}
	part, err := s.Has(ctx, one)
	if err == nil && part {
		err = fmt.Errorf("%s is one of the servers of %s: there is nothing to copy", bURL, aURL)
	}
	return err
}

func isServer(rawURL string) bool {
	scheme, _ := cliutil.SplitURL(rawURL)
	return scheme == "tcp" || scheme == "tls" || scheme == "ipc"
}
