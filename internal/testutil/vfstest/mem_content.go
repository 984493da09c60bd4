package vfstest

import "slices"

const pageSize = 4096

// content is the content of a file. Clones share pages until they write to them. A missing page reads
// as zeros.
type content struct {
	owner *token // pages with this token may be modified in place
	size  int64
	pages []*page
}

// token is compared only by its address, so its size must not be zero.
type token struct{ _ byte }

type page struct {
	owner *token
	b     [pageSize]byte
}

// clone returns a copy that may be modified. The original must not be modified anymore, because the
// copy shares its pages.
func (c *content) clone() *content {
	return &content{owner: new(token), size: c.size, pages: slices.Clone(c.pages)}
}

func (c *content) readAt(p []byte, off int64) int {
	if off >= c.size {
		return 0
	}
	p = p[:min(int64(len(p)), c.size-off)]
	for done := 0; done < len(p); {
		pos := off + int64(done)
		part := p[done:min(len(p), done+int(pageSize-pos%pageSize))]
		if i := pos / pageSize; i < int64(len(c.pages)) && c.pages[i] != nil {
			copy(part, c.pages[i].b[pos%pageSize:])
		} else {
			clear(part)
		}
		done += len(part)
	}
	return len(p)
}

func (c *content) writeAt(p []byte, off int64) {
	for done := 0; done < len(p); {
		pos := off + int64(done)
		done += copy(c.writablePage(pos / pageSize).b[pos%pageSize:], p[done:])
	}
	if len(p) > 0 {
		c.size = max(c.size, off+int64(len(p)))
	}
}

func (c *content) truncate(size int64) {
	if size < c.size {
		pages := (size + pageSize - 1) / pageSize
		if pages < int64(len(c.pages)) {
			clear(c.pages[pages:])
			c.pages = c.pages[:pages]
		}
		if i := size / pageSize; i < int64(len(c.pages)) && c.pages[i] != nil {
			clear(c.writablePage(i).b[size%pageSize:])
		}
	}
	c.size = size
}

// punch removes the pages that lie completely within a range.
func (c *content) punch(off, n int64) {
	clear(c.pages[min((off+pageSize-1)/pageSize, (off+n)/pageSize) : (off+n)/pageSize])
}

func (c *content) diskBytes() int64 {
	var n int64
	for _, p := range c.pages {
		if p != nil {
			n += pageSize
		}
	}
	return n
}

// writablePage returns page i for writing. It creates a missing page and copies a shared one.
func (c *content) writablePage(i int64) *page {
	if need := i + 1 - int64(len(c.pages)); need > 0 {
		c.pages = append(c.pages, make([]*page, need)...)
	}
	p := c.pages[i]
	switch {
	case p == nil:
		c.pages[i] = &page{owner: c.owner}
	case p.owner != c.owner:
		c.pages[i] = &page{owner: c.owner, b: p.b}
	}
	return c.pages[i]
}
