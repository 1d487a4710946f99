package layers

import (
	"fmt"
	"path"
	"strings"
)

// WholeTree returns a tree as a container's first layer: each entry is put.
func WholeTree(tree *Tree) (*Layer, error) {
	l := &Layer{}
	err := tree.Walk(func(name string, n *Node) error {
		if err := checkPutName(name); err != nil {
			return err
		}
		if n.IsDir() {
			alone := *n
			alone.children = nil
			n = &alone
		}
		l.Entries = append(l.Entries, Entry{Kind: Put, Name: name, Node: n})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// checkPutName refuses a name that would be taken for a whiteout in a layer.
func checkPutName(name string) error {
	if strings.HasPrefix(path.Base(name), whiteoutPrefix) {
		return fmt.Errorf("making a layer: it can't hold /%s, because names that begin with %q mean deletions there; rename it or exclude it", name, whiteoutPrefix)
	}
	return nil
}
