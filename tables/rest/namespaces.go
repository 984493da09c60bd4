package rest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
)

// separator is between the levels of a namespace in an address.
const separator = "\x1f"

// bucketOf returns the bucket that a namespace is, of one level and with a name that
// buckets may have.
func (h *handler) bucketOf(levels ...string) (*tables.Bucket, error) {
	if len(levels) != 1 {
		return nil, invalid("a namespace has one level here, not %d", len(levels))
	}
	switch name := levels[0]; {
	case name == "" || len(name) > tables.MaxName || !utf8.ValidString(name) || strings.ContainsAny(name, "\x00"+separator):
		return nil, invalid("%.40q is no name of a namespace: it has to be UTF-8 without the bytes 0x00 and 0x1f, of 1 to %d bytes", name, tables.MaxName)
	default:
		return h.store.BucketOf(name), nil
	}
}

// allowed returns a namespace's bucket for a caller with a right. A caller without one is told
// so before anybody looks whether there is such a bucket.
func (h *handler) allowed(q *request, right flightd.Rights, namespace []string) (*tables.Bucket, error) {
	if right > flightd.Read {
		if err := q.Caller.MayUse(right); err != nil {
			return nil, err
		}
	}
	b, err := h.bucketOf(namespace...)
	if err == nil {
		err = q.Caller.MayUse(right, b.Name())
	}
	return b, err
}

func exists(q *request, b *tables.Bucket) error {
	there, err := b.Exists(q.Ctx)
	if err == nil && !there {
		text := fmt.Sprintf("there is no namespace %q", b.Namespace())
		err = &problem{Code: http.StatusNotFound, Type: "NoSuchNamespaceException", Message: text}
	}
	return err
}

// page is a part of a listing: names after one, up to a number of them.
type page struct {
	after string
	size  int
}

// mostNames are in a page, or in a listing that is not asked for in pages.
const mostNames = 1_000_000

func (q *request) page() (p page, err error) {
	v := q.URL.Query()
	p.size = mostNames
	after, err := base64.RawURLEncoding.DecodeString(v.Get("pageToken"))
	if err != nil {
		return p, invalid("pageToken is none that this catalog gave")
	}
	p.after = string(after)
	if text := v.Get("pageSize"); text != "" {
		if p.size, err = strconv.Atoi(text); err != nil || p.size < 1 {
			return p, invalid("pageSize is %.40q: it has to be a number from 1 on", text)
		}
		p.size = min(p.size, mostNames)
	}
	return p, nil
}

// next is the token of the page after one that is full; nil where none follows.
func (p page) next(names []string) any {
	if len(names) < p.size {
		return nil
	}
	return base64.RawURLEncoding.EncodeToString([]byte(names[len(names)-1]))
}

func (h *handler) listNamespaces(q *request) error {
	p, err := q.page()
	if err != nil {
		return err
	}
	if parent := q.URL.Query().Get("parent"); parent != "" {
		b, err := h.allowed(q, flightd.Read, strings.Split(parent, separator))
		if err == nil {
			err = exists(q, b)
		}
		if err != nil {
			return err
		}
		return q.reply(http.StatusOK, map[string]any{"namespaces": []any{}, "next-page-token": nil})
	}
	var names []string
	for name, err := range h.store.Buckets(q.Ctx) {
		if err != nil {
			return err
		}
		if ns := h.store.Bucket(name).Namespace(); ns > p.after && !strings.Contains(ns, separator) && q.Caller.MayUse(flightd.Read, name) == nil {
			names = append(names, ns)
		}
	}
	names = names[:min(len(names), p.size)]
	all := make([][]string, len(names))
	for i, name := range names {
		all[i] = []string{name}
	}
	return q.reply(http.StatusOK, map[string]any{"namespaces": all, "next-page-token": p.next(names)})
}

func (h *handler) createNamespace(q *request) error {
	var in struct {
		Namespace  []string          `json:"namespace"`
		Properties map[string]string `json:"properties"`
	}
	if err := q.parse(&in); err != nil {
		return err
	}
	b, err := h.allowed(q, flightd.Admin, in.Namespace)
	if err != nil {
		return err
	}
	if err := b.Create(q.Ctx, metadata(in.Properties)); err != nil {
		return err
	}
	if in.Properties == nil {
		in.Properties = map[string]string{}
	}
	return q.reply(http.StatusOK, map[string]any{"namespace": in.Namespace, "properties": in.Properties})
}

func metadata(props map[string]string) tables.Metadata {
	m := tables.Metadata{}
	for k, v := range props {
		m[k] = v
	}
	return m
}

// properties are a bucket's metadata: what is no text is JSON.
func properties(q *request, b *tables.Bucket) (map[string]string, error) {
	m, err := b.Metadata(q.Ctx)
	props := map[string]string{}
	for k, v := range m {
		text, ok := v.(string)
		if !ok {
			b, err := json.Marshal(v)
			if err != nil {
				return nil, err
			}
			text = string(b)
		}
		props[k] = text
	}
	return props, err
}

func (h *handler) loadNamespace(q *request, b *tables.Bucket) error {
	props, err := properties(q, b)
	if err != nil {
		return err
	}
	return q.reply(http.StatusOK, map[string]any{"namespace": []string{b.Namespace()}, "properties": props})
}

func (h *handler) namespaceExists(q *request, _ *tables.Bucket) error {
	return q.done(nil)
}

func (h *handler) dropNamespace(q *request, b *tables.Bucket) error {
	return q.done(h.store.DeleteBucket(q.Ctx, b.Name(), false))
}

func (h *handler) namespaceProperties(q *request, b *tables.Bucket) error {
	var in struct {
		Removals []string          `json:"removals"`
		Updates  map[string]string `json:"updates"`
	}
	if err := q.parse(&in); err != nil {
		return err
	}
	had, err := properties(q, b)
	if err != nil {
		return err
	}
	updated, removed, missing := []string{}, []string{}, []string{}
	for k := range in.Updates {
		if updated = append(updated, k); slices.Contains(in.Removals, k) {
			return &problem{Code: http.StatusUnprocessableEntity, Type: "UnprocessableEntityException", Message: "the property " + strconv.Quote(k) + " is both to be set and to be removed"}
		}
	}
	for _, k := range in.Removals {
		if _, has := had[k]; has {
			removed = append(removed, k)
		} else {
			missing = append(missing, k)
		}
	}
	if err := b.ChangeMetadata(q.Ctx, "", tables.MetadataChange{Set: metadata(in.Updates), Remove: removed}); err != nil {
		return err
	}
	return q.reply(http.StatusOK, map[string]any{"updated": updated, "removed": removed, "missing": missing})
}
