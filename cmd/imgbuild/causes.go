package main

import (
	"errors"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/helperkernel"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/registry/reference"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/stack"
	"github.com/imgbuild/imgbuild/system"
)

// isInvalid reports whether the description or a container is at fault.
func isInvalid(err error) bool {
	return is[*description.Error](err) || is[description.Errors](err) || is[*layers.HostileError](err) || is[*layers.FormatError](err) || is[*layers.DigestError](err) ||
		is[*reference.Error](err) || is[*stack.MismatchError](err) || is[*image.TreeError](err) || is[*system.LockError](err) || is[*imagetypes.ArchitectureError](err) ||
		errors.Is(err, packages.ErrNotLocked) || errors.Is(err, registry.ErrInvalid) || errors.Is(err, stack.ErrDelta)
}

// isMissing reports whether this machine lacks something.
func isMissing(err error) bool {
	return is[*command.MissingError](err) || is[*userns.Error](err) || is[*helperkernel.UnavailableError](err)
}

func is[E error](err error) bool {
	var target E
	return errors.As(err, &target)
}
