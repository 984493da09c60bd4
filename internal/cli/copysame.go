package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
)

// bottom returns the store beneath all layers, to look at.
func bottom(store partd.Partd) partd.Partd {
	for {
		layer, ok := store.(partd.Unwrapper)
		if !ok {
			return store
		}
		store = layer.Unwrap()
	}
}

// notItself makes sure that the target, which holds keys, is not the source under
// another name: a server has several addresses, and a directory behind it. Where
// there is a server it puts a key into the target, looks for it in the source,
// and removes it.
func (c *copying) notItself(ctx context.Context) (err error) {
	if !isServer(*c.flags.from) && !isServer(*c.flags.to) {
		return nil // the directories were compared
	}
	// Nobody has a key that ends like this.
	key := "partd copy looks whether two stores are one " + rand.Text()
	if err := c.to.Append(ctx, partd.Entry{Key: key, Value: []byte("x")}); err != nil {
		return err
	}
	defer func() {
		if e := partd.Delete(context.WithoutCancel(ctx), c.to, key); e != nil {
			err = errors.Join(err, fmt.Errorf("the key %q stays in %s: %w", key, *c.flags.to, e))
		}
	}()
	if err := flush(ctx, c.to); err != nil {
		return err
	}
	found, err := bottom(c.from).Get(ctx, key)
	if err == nil && len(found[0]) > 0 {
		err = fmt.Errorf("%s and %s are the same store: there is nothing to copy", *c.flags.from, *c.flags.to)
	}
	return err
}

func isServer(rawURL string) bool {
	scheme, _ := splitURL(rawURL)
	return scheme == "tcp" || scheme == "ipc"
}

// flush flushes a store, if it holds anything back.
func flush(ctx context.Context, store partd.Partd) error {
	if err := partd.Flush(ctx, store); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}
