package layers

// Clamp returns the tree with every time later than epoch set to it. Trees that differ only in when they were made become equal so.
func Clamp(t *Tree, epoch Timespec) *Tree {
	late := func(n *Node) bool { return n.MTime.After(epoch) }
	changed := map[*Node]*Node{}
	var clamp func(n *Node) *Node
	clamp = func(n *Node) *Node {
		if c, ok := changed[n]; ok {
			return c
		}
		var children map[string]*Node
		for name, child := range n.children {
			if c := clamp(child); c != child {
				if children == nil {
					children = make(map[string]*Node, len(n.children))
					for name, child := range n.children {
						children[name] = child
					}
				}
				children[name] = c
			}
		}
		if children == nil && !late(n) {
			return n
		}
		c := *n
		if children != nil {
			c.children = children
		}
		if late(n) {
			c.MTime = epoch
		}
		if !n.IsDir() {
			changed[n] = &c
		}
		return &c
	}
	return &Tree{root: clamp(t.root)}
}

// After reports whether t is later than u.
func (t Timespec) After(u Timespec) bool {
	return t.Sec > u.Sec || t.Sec == u.Sec && t.Nsec > u.Nsec
}
