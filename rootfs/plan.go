package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/initrd"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/scripts"
)

// Plan is what [Overlay] would do.
type Plan struct {
	Install   []string // packages of the description that the tree lacks
	Installed int      // packages of the description that the tree has
	Remove    []string // packages that would be removed
	Archives  []string
	Files     bool // there is an overlay directory or archive
	Users     []string
	Scripts   []string // that would run
	Kernels   []string // versions of kernels whose initial RAM disk would be made; those of packages to be installed are not among them
	Unpack    bool     // whether programs of the tree must run, so that it is unpacked

	// Transaction is what the package manager would do, nil if that was not asked or could not be found out; then Unknown says why.
	Transaction *packages.Transaction
	Unknown     string
}

// PlanOverlay says what [Overlay] would do. It changes nothing; to know what packages would be installed it asks their repositories, with a part of the
// tree unpacked into a temporary directory.
func PlanOverlay(ctx context.Context, request Request) (*Plan, error) {
	o := newOverlay(request)
	p := &Plan{}
	tree := request.Tree
	present := o.scriptPlan(p)
	if request.Phase != Create {
		if err := o.planPackages(ctx, p); err != nil {
			return nil, err
		}
		for _, set := range []description.PackageSet{o.Description.Packages.Bootstrap, o.Description.Packages.System} {
			for _, archive := range set.Archives {
				p.Archives = append(p.Archives, archive.Name)
			}
		}
		for _, u := range o.Description.Users {
			p.Users = append(p.Users, u.Name)
		}
		for _, name := range slices.Concat([]string{"root"}, overlayArchives(), o.Description.Profiles) {
			if _, err := fs.Stat(o.source.FS, name); err == nil && fs.ValidPath(name) {
				p.Files = true
			}
		}
	}
	o.installed = len(p.Install)+len(p.Remove) > 0
	if request.Phase != Create {
		for _, name := range initrd.Settings() {
			if _, err := fs.Stat(o.source.FS, "root/"+name); err == nil {
				o.initrdSettings = true
			}
		}
	}
	for _, k := range o.wantedInitrds(tree) {
		p.Kernels = append(p.Kernels, k.Version)
	}
	p.Unpack = o.installed || len(p.Scripts) > 0 || len(p.Kernels) > 0
	if len(p.Kernels) > 0 && !o.installed && initrd.Tool(tree) == "" && !present {
		return nil, fmt.Errorf("making the initial RAM disk of kernel %s: %w", p.Kernels[0], initrd.ErrNoTool)
	}
	return p, nil
}

// scriptPlan lists the scripts that would run, those for the image's disk too, and reports whether there are any.
func (o *overlay) scriptPlan(p *Plan) bool {
	t := &o.Description.Type
	var names []string
	if o.Phase != Create {
		names = append(names, scripts.PostBootstrap, scripts.Config)
	}
	if o.Phase != Prepare {
		names = append(names, scripts.Images)
		if t.DeltaRoot {
			names = append(names, scripts.ConfigOverlay, scripts.ConfigHostOverlay)
		}
		if t.Image == "oem" {
			names = append(names, scripts.EditBootConfig, scripts.PreDiskSync, scripts.Disk, scripts.EditBootInstall)
		}
	}
	there := map[string]bool{}
	for _, file := range slices.Concat(imports(o.Description), typeImports(o.Description)) {
		_, err := fs.Stat(o.source.FS, file.from)
		there[file.to] = o.Phase != Create && err == nil || o.Phase == Create && scripts.Has(o.Tree, file.to)
	}
	p.Scripts = slices.DeleteFunc(names, func(name string) bool { return !there[name] })
	return len(p.Scripts) > 0
}

func (o *overlay) planPackages(ctx context.Context, p *Plan) error {
	set := allPackages(o.Description)
	wanted, err := missing(o.Tree, set)
	if err != nil {
		return err
	}
	p.Install = description.Names(slices.Concat(wanted.Packages, wanted.Collections, wanted.Products))
	p.Installed = len(set.Packages) - len(wanted.Packages)
	for _, list := range [][]description.Package{o.Description.Packages.Uninstall, o.Description.Packages.Delete} {
		there, err := present(o.Tree, list)
		if err != nil {
			return err
		}
		p.Remove = append(p.Remove, description.Names(there)...)
	}
	if empty(wanted) {
		return nil
	}
	if err := o.checkTree(o.Tree); err != nil {
		return err
	}
	t, err := o.simulate(ctx, wanted)
	var wrong *description.Error
	switch {
	case errors.As(err, &wrong) || ctx.Err() != nil:
		return err
	case err != nil:
		p.Unknown = err.Error()
	default:
		p.Transaction = &t
	}
	return nil
}

// Simulate says what packages [Overlay] would install into the tree of a request, those that others need included. It changes nothing.
func Simulate(ctx context.Context, request Request) (packages.Transaction, error) {
	o := newOverlay(request)
	wanted, err := missing(o.Tree, allPackages(o.Description))
	if err != nil || empty(wanted) {
		return packages.Transaction{}, err
	}
	if err := o.checkTree(o.Tree); err != nil {
		return packages.Transaction{}, err
	}
	return o.simulate(ctx, wanted)
}

// simulate asks the package manager what an installation would do.
func (o *overlay) simulate(ctx context.Context, wanted description.PackageSet) (t packages.Transaction, err error) {
	dir, err := os.MkdirTemp("", "imgbuild-plan-")
	if err != nil {
		return t, fmt.Errorf("making a temporary directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	part, err := packageManagerPart(o.Tree)
	if err != nil {
		return t, err
	}
	work := &workspace{dir: path.Join(dir, "root"), arch: o.work.arch, modTime: o.work.modTime, progress: o.Progress, log: o.Log, tree: part}
	manager, err := o.openManager(ctx, work, dir)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, manager.close()) }()
	return manager.Simulate(ctx, wanted)
}

// packageManagerPart leaves out of a tree what is large and what apt does not need to resolve packages.
func packageManagerPart(tree *layers.Tree) (*layers.Tree, error) {
	edit := tree.Edit(layers.Timespec{})
	for _, name := range []string{
		"boot", "home", "opt", "srv", "usr/lib/modules", "usr/lib/firmware", "usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/i18n", "usr/lib/locale",
		"usr/share/fonts", "usr/share/icons", "usr/lib/python3", "usr/lib/gcc", "usr/lib/debug", "usr/src", "usr/local", "var/log", "var/cache", "var/lib/apt/lists", "image",
	} {
		if err := edit.Remove(name); err != nil {
			return nil, err
		}
	}
	return edit.Tree(), nil
}

// String says it in lines for people; nothing to do gives one line.
func (p *Plan) String() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	switch {
	case p.Transaction != nil:
		t := p.Transaction
		names := make([]string, 0, len(t.Packages))
		for _, one := range t.Packages {
			names = append(names, one.Name+" "+one.Version)
		}
		line("install %d packages, fetch %s, grow by %s: %s", len(names), megabytes(t.Download()), megabytes(t.Growth), strings.Join(names, ", "))
	case len(p.Install) > 0:
		line("install with what they need: %s", strings.Join(p.Install, " "))
		line("sizes are not known: %s", p.Unknown)
	}
	if p.Installed > 0 {
		line("%d packages of the description are there already", p.Installed)
	}
	if len(p.Remove) > 0 {
		line("remove: %s", strings.Join(p.Remove, " "))
	}
	if len(p.Archives) > 0 {
		line("unpack archives: %s", strings.Join(p.Archives, " "))
	}
	if p.Files {
		line("add the description's files")
	}
	if len(p.Users) > 0 {
		line("make or change users: %s", strings.Join(p.Users, " "))
	}
	if len(p.Scripts) > 0 {
		line("run scripts: %s", strings.Join(p.Scripts, " "))
	}
	if len(p.Kernels) > 0 {
		line("make the initial RAM disk of kernel %s", strings.Join(p.Kernels, ", "))
	}
	if !p.Unpack {
		line("no program of the root tree has to run: nothing is unpacked")
	}
	return b.String()
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
