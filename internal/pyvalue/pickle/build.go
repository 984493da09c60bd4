package pickle

import (
	"errors"
	"fmt"

	"github.com/go-partd/partd/internal/pyvalue"
)

// These are the states of a node while a builder converts it.
const (
	notBuilt uint8 = iota
	beingBuilt
	isBuilt
)

// builder converts nodes to values. A node becomes one value, even if there are several references
// to it.
type builder struct {
	unique *pyvalue.Unique
	depth  int
}

func (b *builder) buildNode(n *node) error {
	switch n.state {
	case isBuilt:
		return nil
	case beingBuilt:
		return fmt.Errorf("a %s that contains itself", kindNames[n.kind])
	}
	b.depth++
	if b.depth > pyvalue.MaxDepth {
		return tooDeep()
	}
	n.state = beingBuilt
	size, depth := int64(1), int32(0)
	for i, item := range n.items {
		child, ok := item.(*node)
		if !ok {
			if _, ok := item.(bytearrayFunction); ok {
				return errors.New("a function is not a plain value")
			}
			size++
			continue
		}
		if err := b.buildNode(child); err != nil {
			return err
		}
		n.items[i] = child.built
		size += child.size
		depth = max(depth, child.depth)
	}
	if size > MaxElements {
		return fmt.Errorf("more than %d elements, counting shared containers once for each reference", MaxElements)
	}
	depth++
	if depth > pyvalue.MaxDepth {
		return tooDeep()
	}
	b.depth--
	n.state, n.size, n.depth = isBuilt, size, depth
	return b.finish(n)
}

func tooDeep() error { return fmt.Errorf("nested more than %d levels deep", pyvalue.MaxDepth) }

func (b *builder) finish(n *node) error {
	items := n.items
	if items == nil {
		items = []any{}
	}
	n.items = nil
	var err error
	switch n.kind {
	case list:
		n.built = items
	case tuple:
		n.built = pyvalue.Tuple(items)
	case dict:
		pairs := make([]pyvalue.Item, len(items)/2)
		for i := range pairs {
			pairs[i] = pyvalue.Item{Key: items[2*i], Value: items[2*i+1]}
		}
		n.built, err = b.unique.Dict(pairs)
	case set:
		items, err = b.unique.Set(items)
		n.built = pyvalue.Set(items)
	case object:
		o := &Object{Class: items[0], Args: items[1].(pyvalue.Tuple)}
		if len(items) > 2 {
			o.State = items[2]
		}
		n.built = o
	case frozenSet:
		items, err = b.unique.Set(items)
		n.built = pyvalue.FrozenSet(items)
	}
	return err
}
