package rootfs

import (
	"cmp"
	"context"
	"fmt"
	"strconv"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/initrd"
	"github.com/imgbuild/imgbuild/rootfs/scripts"
	"github.com/imgbuild/imgbuild/rootfs/selinux"
	"github.com/imgbuild/imgbuild/rootfs/settings"
	"github.com/imgbuild/imgbuild/rootfs/users"
)

// accounts makes users and groups.
func (o *overlay) accounts(ctx context.Context) error {
	return o.work.edit(ctx, func(edit *layers.Editor) error {
		notes, err := users.Apply(edit, o.Description.Groups, o.Description.Users, o.Repro)
		for _, note := range notes {
			o.note(note)
		}
		return err
	})
}

// hostname names the machine.
func (o *overlay) hostname(ctx context.Context) error {
	return o.work.edit(ctx, func(edit *layers.Editor) error { return settings.ApplyHostname(edit, o.Description) })
}

// settings sets locale, keyboard, time zone and image id.
func (o *overlay) settings(ctx context.Context) error {
	var result settings.Result
	err := o.work.edit(ctx, func(edit *layers.Editor) (err error) {
		result, err = settings.Apply(edit, o.Description)
		return err
	})
	for _, note := range result.Notes {
		o.note(note)
	}
	if err != nil || len(result.Generate) == 0 {
		return err
	}
	return o.program(ctx, "making locales", "locale-gen", "--keep-existing")
}

// drivers lets initial RAM disks have the kernel modules of the description, and what its element initrd says.
func (o *overlay) drivers(ctx context.Context) error {
	own := &o.Description.Type.Initrd
	modules := initrd.Modules{Add: own.Add, Omit: own.Omit, Set: own.Set, AddDrivers: own.AddDrivers, OmitDrivers: own.OmitDrivers, SetDrivers: own.SetDrivers}
	if len(o.Description.Drivers) == 0 && modules.Empty() || kernelUseOf(&o.Description.Type) == noKernel {
		return nil
	}
	return o.work.edit(ctx, func(edit *layers.Editor) error {
		var notes []string
		var err error
		if len(o.Description.Drivers) > 0 {
			notes, err = initrd.WantDrivers(edit, o.Description.Drivers)
		}
		if err == nil && !modules.Empty() {
			var more []string
			more, err = initrd.WantModules(edit, modules)
			notes = append(notes, more...)
		}
		for _, note := range notes {
			o.note(note)
		}
		return err
	})
}

// splash chooses the theme of the picture that hides the start of a machine.
func (o *overlay) splash(ctx context.Context) error {
	const tool = "plymouth-set-default-theme"
	theme := o.Description.BootsplashTheme
	if theme == "" {
		return nil
	}
	there, err := o.hasProgram(ctx, tool)
	if err != nil {
		return err
	}
	if !there {
		o.note(fmt.Sprintf("bootsplash-theme %s has no effect: the root tree has no plymouth", theme))
		return nil
	}
	if err := o.program(ctx, "choosing the theme "+theme+" of plymouth", tool, theme); err != nil {
		return o.Description.Errorf("bootsplash-theme", "see /usr/share/plymouth/themes for what there is, or add the package of the theme", "%v", err)
	}
	return nil
}

// permissions lets SUSE's tool set the permissions that the tree's security level wants.
func (o *overlay) permissions(ctx context.Context) error {
	there, err := o.hasProgram(ctx, "chkstat")
	if err != nil || !there {
		return err
	}
	return o.program(ctx, "setting permissions", "chkstat", "--system", "--set")
}

// hasProgram reports whether the tree has a program.
func (o *overlay) hasProgram(ctx context.Context, name string) (bool, error) {
	tree, err := o.work.current(ctx)
	if err != nil {
		return false, err
	}
	return scripts.FindProgram(tree, name) != "", nil
}

// labels gives every entry the security context that the tree's SELinux policy wants.
func (o *overlay) labels(ctx context.Context) error {
	policy := cmp.Or(o.Description.Type.SELinuxPolicy, "targeted")
	tree, err := o.work.current(ctx)
	if err != nil {
		return err
	}
	if !selinux.Has(tree, policy) {
		if o.Description.Type.Has("selinux_policy") {
			o.note(fmt.Sprintf("selinux_policy %s has no effect: the root tree has no such policy; add its package, such as selinux-policy-%[1]s, to the description", policy))
		}
		return nil
	}
	return o.work.edit(ctx, func(edit *layers.Editor) error { return selinux.Label(edit, policy) })
}

// initrds makes the initial RAM disks that are missing or out of date, where the image type has a use for them.
func (o *overlay) initrds(ctx context.Context) error {
	tree, err := o.work.current(ctx)
	if err != nil {
		return err
	}
	if o.initrdSettings, err = initrd.SettingsDiffer(o.Tree, tree); err != nil {
		return err
	}
	for _, k := range o.wantedInitrds(tree) {
		o.ran = append(o.ran, "initrd of kernel "+k.Version)
		options := initrd.Options{Run: o.programRun, Tree: tree, Progress: o.Progress, Log: o.Log}
		if o.Repro.Fixed {
			options.Epoch = o.Repro.Epoch
		}
		if err := initrd.Build(ctx, k, options); err != nil {
			return err
		}
	}
	return nil
}

// wantedInitrds returns the kernels whose initial RAM disk has to be made.
func (o *overlay) wantedInitrds(tree *layers.Tree) []initrd.Kernel {
	use := kernelUseOf(&o.Description.Type)
	if use == noKernel || use == ownInitrd {
		return nil
	}
	able := initrd.Tool(tree) != ""
	outdated := able && (o.installed || o.initrdSettings)
	var wanted []initrd.Kernel
	for _, k := range initrd.FindKernels(tree) {
		missing := k.Initrd == "" && (use == bootsKernel || able && o.Description.Type.XenMachine())
		if k.Modules != "" && (missing || outdated) {
			wanted = append(wanted, k)
		}
	}
	return wanted
}

// kernelUse is what becomes of the kernels of a tree.
type kernelUse int

const (
	noKernel    kernelUse = iota // nobody boots them
	keepsKernel                  // somebody may: their initial RAM disks are as the distribution's packages would leave them
	bootsKernel                  // the image starts with one and its initial RAM disk
	ownInitrd                    // it starts with one, and an initial RAM disk that the image's builder makes
)

// kernelUseOf returns what images of a type do with kernels.
func kernelUseOf(t *description.Type) kernelUse {
	use := keepsKernel
	switch t.Image {
	case "docker", "oci", "appx", "wsl", "cpio":
		return noKernel
	case "oem", "pxe", "kis":
		use = bootsKernel
	case "iso":
		use = ownInitrd
	}
	if t.InitrdSystem == "none" && (use != keepsKernel || t.Has("initrd_system")) {
		return noKernel
	}
	return use
}

// epoch is the environment that asks programs for reproducible output.
func (o *overlay) epoch() []string {
	if !o.Repro.Fixed {
		return nil
	}
	return []string{repro.EpochVariable + "=" + strconv.FormatInt(o.Repro.Epoch.Unix(), 10)}
}
