package rootfs

import (
	"context"
	"errors"
	"fmt"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/rpm"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
	"github.com/imgbuild/imgbuild/rootfs/zypper"
)

// rpmDatabase makes rpm's database, which notes the second in which each package came, the same in each build where that was asked for.
func (o *overlay) rpmDatabase(ctx context.Context) error {
	if !o.Repro.Fixed || !o.installed {
		return nil
	}
	tree, err := o.work.current(ctx)
	if err != nil {
		return err
	}
	scratch, err := o.scratchDir()
	if err != nil {
		return err
	}
	change, err := rpm.Rewrite(ctx, rpm.RewriteOptions{
		Tree: tree, Inside: o.programRun, Workdir: scratch, Time: o.Repro.Epoch, Log: o.Log,
		Outside: func(ctx context.Context, spec sandbox.Spec) error {
			if _, err := o.packages(ctx); err != nil {
				return err
			}
			return o.manager.toolbox.Run(ctx, spec)
		},
	})
	var missing *command.MissingError
	if errors.As(err, &missing) {
		o.note(fmt.Sprintf("the package database is not the same in each build: %v", missing))
		return nil
	}
	if err != nil || change == nil {
		return err
	}
	return o.work.edit(ctx, func(edit *layers.Editor) error {
		return errors.Join(change(edit), zypper.FixTime(edit, o.Repro.Epoch))
	})
}
