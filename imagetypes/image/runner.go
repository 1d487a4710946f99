package image

import (
	"context"

	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// Runner runs programs on root trees. Trees are values: what a program does to one is in the tree that comes back.
type Runner interface {
	// Run runs a program of a tree in it. The tree is the finished root tree or one that was made of it.
	Run(ctx context.Context, tree *layers.Tree, spec sandbox.Spec) (*layers.Tree, error)
	// RunOutside runs a program of this machine, which finds the tree as [sandbox.TargetDir] and can change nothing else.
	RunOutside(ctx context.Context, tree *layers.Tree, spec sandbox.Spec) (*layers.Tree, error)
}

// Preparing is a [Builder] that runs programs on the root tree.
type Preparing interface {
	// Prepare runs what must run before Build, and returns the request for it with the tree as it is then, and who builds. Build itself leaves the
	// directory in which the tree's contents may lie alone, since others read them meanwhile.
	Prepare(ctx context.Context, r *Request) (*Request, Builder, error)
}
