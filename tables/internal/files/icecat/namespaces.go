package icecat

import (
	"context"
	"database/sql"
	"strings"
)

// namespaces reads and changes namespaces and their properties in the database.
type namespaces struct{ *database }

// Namespaces returns the sorted names of the namespaces that contain tables, or were created and not dropped.
func (n namespaces) Namespaces(ctx context.Context) ([]string, error) {
	return n.queryStrings(ctx, selectNamespaces+` ORDER BY 1`)
}

// HasNamespace reports whether a namespace exists.
func (n namespaces) HasNamespace(ctx context.Context, namespace string) (bool, error) {
	rows, err := n.queryStrings(ctx, selectNamespace, namespace)
	return len(rows) > 0, err
}

// DropNamespace drops a namespace unless it contains tables or snapshots.
func (n namespaces) DropNamespace(ctx context.Context, namespace string) error {
	return n.inTx(ctx, func(t *transaction) {
		t.exec(deleteNamespace, namespace)
		if len(t.queryStrings(selectNamespace, namespace)) == 0 { // even if another transaction dropped it first
			t.recordKey()
		}
	})
}

// Property returns a namespace's property, or "" if it is not set.
func (n namespaces) Property(ctx context.Context, namespace, key string) (string, error) {
	return n.firstString(ctx, selectProperty, namespace, key)
}

// EditProperty replaces a namespace's property with the result of edit, in one transaction. It creates a missing
// namespace.
func (n namespaces) EditProperty(ctx context.Context, namespace, key string, edit func(old string) (string, error)) error {
	return n.inTx(ctx, func(t *transaction) {
		old, edited := strings.Join(t.queryStrings(selectProperty, namespace, key), ""), ""
		if t.err == nil {
			edited, t.err = edit(old)
		}
		if t.err != nil || edited == old {
			return
		}
		t.exec(insertNamespace, namespace)
		t.exec(insertProperty+` ON CONFLICT (catalog_name, namespace, property_key) DO UPDATE SET property_value=excluded.property_value`, namespace, key, edited)
	})
}

// CreateNamespace creates a namespace with metadata. The namespace must not exist.
func (n namespaces) CreateNamespace(ctx context.Context, namespace string, metadata map[string]any) error {
	return n.inTx(ctx, func(t *transaction) {
		if len(t.queryStrings(selectNamespace, namespace)) > 0 {
			t.err = ErrExists
		}
		t.exec(insertNamespace, namespace)
		for k, v := range Properties(metadata) {
			t.exec(insertProperty, namespace, k, v)
		}
		t.recordKey()
	})
}

// NamespaceMetadata returns a namespace's metadata and reports whether the namespace exists.
func (n namespaces) NamespaceMetadata(ctx context.Context, namespace string) (map[string]any, bool, error) {
	exists, err := n.HasNamespace(ctx, namespace)
	if err != nil || !exists {
		return nil, false, err
	}
	m, err := namespaceMetadata(ctx, n.readPool, namespace)
	return m, true, err
}

func namespaceMetadata(ctx context.Context, db querier, namespace string) (map[string]any, error) {
	props := map[string]string{}
	err := query(ctx, db, func(rows *sql.Rows) error {
		var k string
		var v sql.NullString
		err := rows.Scan(&k, &v)
		props[k] = v.String
		return err
	}, selectProperties, namespace)
	return FromProperties(props), err
}

func (t *transaction) namespaceMetadata(namespace string) (m map[string]any) {
	if t.err == nil {
		m, t.err = namespaceMetadata(t.ctx, t.tx, namespace)
	}
	return m
}

// ChangeNamespaceMetadata returns a hook that replaces a namespace's metadata with the result of change. It creates a
// missing namespace.
func ChangeNamespaceMetadata(namespace string, change func(map[string]any) (map[string]any, error)) TxHook {
	return func(t *transaction) {
		stored := t.namespaceMetadata(namespace)
		if t.err != nil {
			return
		}
		var changed map[string]any
		changed, t.err = change(stored)
		for k := range Properties(stored) {
			t.exec(deleteProperty, namespace, k)
		}
		for k, v := range Properties(changed) {
			t.exec(insertProperty, namespace, k, v)
		}
		t.exec(insertNamespace, namespace)
	}
}
