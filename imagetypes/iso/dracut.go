package iso

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/initrd"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// modulesDir is where dracut has its modules: directories whose names begin with two digits.
const modulesDir = "usr/lib/dracut/modules.d"

// ownModule is the name of the module in the directory dracut. It is in the root tree while dracut runs.
const ownModule = "imgbuild-live"

//go:embed dracut
var ownFiles embed.FS

// hasProgram reports whether the tree has a program.
func hasProgram(tree *layers.Tree, name string) bool {
	return slices.ContainsFunc([]string{"usr/bin/", "usr/sbin/", "bin/", "sbin/"}, func(dir string) bool {
		_, node, err := tree.Resolve(dir + name)
		return err == nil && node.IsRegular()
	})
}

// dracutModules returns the modules that the initial RAM disk needs, and refuses a tree without them and what they run.
func (s *settings) dracutModules(tree *layers.Tree) ([]string, error) {
	if !hasProgram(tree, "dracut") {
		return nil, image.Placed(s.typ.At("image"), &image.TreeError{Missing: "dracut", Need: need, Hint: "add the package dracut to the description"})
	}
	main, hint := "kiwi-live", "add the package kiwi-dracut-live (Debian) or dracut-kiwi-live (openSUSE, Fedora) to the description, or set flags=\"dmsquash\""
	if s.flags == flagDMSquash {
		main, hint = "dmsquash-live", "add the package dracut-live (Debian, Fedora) to the description"
	}
	if !initrd.HasModule(tree, main) {
		return nil, image.Placed(s.typ.At("flags"), &image.TreeError{Missing: "dracut module " + main, Need: fmt.Sprintf("%s with flags=%q", need, s.flags), Hint: hint})
	}
	if err := s.needPrograms(tree); err != nil {
		return nil, err
	}
	modules := []string{main}
	if initrd.HasModule(tree, "pollcdrom") {
		modules = append(modules, "pollcdrom")
	}
	// A live system from the network, as KIWI has it too.
	if s.flags == flagDMSquash && initrd.HasModule(tree, "livenet") && initrd.HasModule(tree, "network") && initrd.HasModule(tree, "url-lib") && hasProgram(tree, "curl") {
		modules = append(modules, "livenet")
	}
	if s.ownModule() {
		modules = append(modules, ownModule)
	}
	if s.flags == flagOverlay && initrd.HasModule(tree, "bash") {
		modules = append(modules, "bash") // kiwi-live is written for bash, and dracut of Debian takes dash unless it is left out
	}
	return modules, nil
}

// needPrograms refuses a tree that lacks what modules put into the initial RAM disk where they find it, and fail without it when the system starts.
func (s *settings) needPrograms(tree *layers.Tree) error {
	type program struct{ name, pkg, attr, need string } // need is why, which attr says
	var programs []program
	if s.typ.HybridPersistent {
		const attr, need = "hybridpersistent", `hybridpersistent="true"`
		table := program{"sfdisk", "fdisk (Debian) or util-linux", attr, need}
		if s.flags == flagOverlay {
			table.name = "fdisk"
			programs = append(programs, program{"partprobe", "parted", attr, need})
		}
		pkg := map[string]string{"ext4": "e2fsprogs", "xfs": "xfsprogs"}[s.persistentFS()]
		programs = append(programs, table, program{"mkfs." + s.persistentFS(), pkg, attr, need})
	}
	if s.typ.MediaCheck {
		programs = append(programs, program{"sha256sum", "coreutils", "mediacheck", `mediacheck="true"`})
	}
	if check := "rd.live.check"; s.flags == flagDMSquash && slices.Contains(strings.Fields(s.typ.KernelCmdline), check) {
		programs = append(programs, program{"checkisomd5", "isomd5sum", "kernelcmdline", check + ` on the kernel command line (mediacheck="true" needs no such program)`})
	}
	for _, p := range programs {
		if !hasProgram(tree, p.name) {
			missing := &image.TreeError{Missing: "program " + p.name, Need: p.need, Hint: "add the package " + p.pkg + " to the description"}
			return image.Placed(s.typ.At(p.attr), missing)
		}
	}
	return nil
}

// checkDrivers refuses a kernel that can't read the medium.
func checkDrivers(tree *layers.Tree, k initrd.Kernel) error {
	if k.Modules == "" {
		return nil // whatever it has is built in
	}
	const most = 1 << 20 // bytes
	builtin, err := tree.ReadFile(path.Join(k.Modules, "modules.builtin"), most)
	if err != nil {
		return nil //nolint:nilerr // nobody knows
	}
	for _, driver := range []string{"fs/squashfs/squashfs.ko", "fs/overlayfs/overlay.ko", "fs/isofs/isofs.ko", "drivers/block/loop.ko"} {
		_, dir, err := tree.Resolve(path.Join(k.Modules, "kernel", path.Dir(driver)))
		there := err == nil && dir.IsDir() && slices.ContainsFunc(dir.Names(), func(name string) bool { return strings.HasPrefix(name, path.Base(driver)) })
		if !there && !strings.Contains(string(builtin), "kernel/"+driver) {
			return &image.TreeError{Missing: "kernel module " + driver + " of the kernel " + k.Version, Need: need, Hint: "add the package of another kernel to the description, or the one with the rest of its modules"}
		}
	}
	return nil
}

// outputDir is where dracut finds the directory for the initial RAM disk.
const outputDir = "/run/imgbuild/live"

// makeInitrd lets the tree's dracut make the initial RAM disk as the file initrd in m.dir. It returns the tree as dracut leaves it.
func (m *medium) makeInitrd(ctx context.Context, r *image.Request) (_ *layers.Tree, err error) {
	out := filepath.Join(m.dir, "initrd")
	if err := os.Mkdir(out, 0o700); err != nil {
		return nil, err
	}
	epoch := layers.TimespecOf(r.Repro.Epoch)
	edit := r.Tree.Edit(epoch)
	if m.ownModule() {
		if err := putOwnModule(edit); err != nil {
			return nil, err
		}
	}
	args := []string{"--add", strings.Join(m.modules, " ")}
	if slices.Contains(m.modules, "bash") {
		args = append(args, "--omit", "dash")
	}
	spec := sandbox.Spec{
		Args: initrd.Dracut(m.kernel, r.Tree, outputDir+"/initrd", args...), NoNetwork: true, Log: r.Log, Binds: []sandbox.Bind{{Source: out, Target: outputDir}},
	}
	if r.Repro.Fixed {
		spec.Env = []string{repro.EpochVariable + "=" + strconv.FormatInt(r.Repro.Epoch.Unix(), 10)}
	}
	task := r.Progress.Start("making the live system's initial RAM disk", 0, progress.Items)
	tree, err := r.Runner.Run(ctx, edit.Tree(), spec)
	task.Done(err)
	if err != nil {
		return nil, fmt.Errorf("making the initial RAM disk of kernel %s: %w", m.kernel.Version, err)
	}
	if !m.ownModule() {
		return tree, nil
	}
	edit = tree.Edit(epoch)
	if err := edit.Remove(ownModuleDir()); err != nil {
		return nil, err
	}
	return edit.Tree(), nil
}

// ownModuleDir is the module's directory in a tree.
func ownModuleDir() string { return path.Join(modulesDir, "95"+ownModule) }

// putOwnModule puts the module into a tree.
func putOwnModule(edit *layers.Editor) error {
	if err := edit.MkdirAll(ownModuleDir(), 0o755); err != nil {
		return err
	}
	return fs.WalkDir(ownFiles, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := ownFiles.ReadFile(name)
		if err != nil {
			return err
		}
		return edit.WriteFile(path.Join(ownModuleDir(), path.Base(name)), data, 0o755)
	})
}
