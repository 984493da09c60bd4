package remote

import (
	"errors"
	"fmt"

	"github.com/go-partd/partd"
)

func (c *conn) stat(r request, _ *decoder) (answerFunc, error) {
	return func(a *answerBuilder) error {
		st, err := c.space.statistics.get(c.ctx, c.space.store)
		if err != nil {
			return err
		}
		for _, n := range []int64{st.Keys, st.Bytes, st.Memory, st.Disk} {
			a.u64(uint64(n))
		}
		if r.flags&flagCount != 0 {
			a.u64(c.space.changes.Load())
		}
		return nil
	}, nil
}

// verify answers with the result of a check of the store. The server runs only one check at a time,
// because a check reads the whole store.
func (c *conn) verify(a *answerBuilder) error {
	if err := c.server.checking.acquire(c.ctx); err != nil {
		return err
	}
	defer c.server.checking.release()
	checked, err := partd.Check(c.ctx, c.space.store)
	if err != nil && !errors.As(err, new(*partd.CorruptError)) || c.ctx.Err() != nil {
		return err
	}
	a.u64(uint64(checked.Records))
	a.u64(uint64(checked.Segments))
	list := damages(err)
	a.u32(uint32(len(list)))
	for _, d := range list {
		a.buf = appendText(a.buf, truncate(publicPath(d.Path)))
		a.u64(uint64(d.Offset))
		a.buf = appendText(a.buf, truncate(publicText(d.Err.Error(), d)))
	}
	return nil
}

// damages returns all CorruptErrors in the error of a check. It converts other errors to CorruptErrors
// without a path.
func damages(err error) []*partd.CorruptError {
	switch e := err.(type) {
	case nil:
		return nil
	case *partd.CorruptError:
		return []*partd.CorruptError{e}
	case interface{ Unwrap() []error }:
		var list []*partd.CorruptError
		for _, inner := range e.Unwrap() {
			list = append(list, damages(inner)...)
		}
		return list
	}
	if errors.As(err, new(*partd.CorruptError)) {
		return damages(errors.Unwrap(err))
	}
	return []*partd.CorruptError{{Path: "?", Offset: -1, Err: err}}
}

const listPageSize = 500

func (c *conn) namespaces(_ request, d *decoder) (answerFunc, error) {
	lastName := d.text()
	return func(a *answerBuilder) error {
		if c.opts.Namespaces == nil {
			return fmt.Errorf("this server has no namespaces: %w", errors.ErrUnsupported)
		}
		var visible []NamespaceInfo
		for more := true; more && len(visible) == 0; {
			list, err := c.opts.Namespaces.List(c.ctx, lastName, listPageSize)
			if err != nil {
				return err
			}
			for _, info := range list {
				lastName = info.Name
				if auth := c.opts.Authorizer; auth == nil || auth.Rights(c.user, info.Name)&RightAdmin != 0 {
					visible = append(visible, info)
				}
			}
			more = len(list) == listPageSize
			if more && len(visible) > 0 {
				a.flags |= flagMore
			}
		}
		lastName = ""
		if len(visible) > 0 {
			lastName = visible[len(visible)-1].Name // do not reveal a name that the user may not see
		}
		a.buf = appendText(a.buf, lastName)
		a.u32(uint32(len(visible)))
		for _, info := range visible {
			a.buf = appendText(a.buf, info.Name)
			a.u64(uint64(info.DiskBytes))
			a.u64(uint64(info.LastUsed.Unix()))
		}
		return nil
	}, nil
}
