// Package kis builds kernel-initrd-systems, the image types kis and pxe: an archive with a kernel, its initial RAM disk and, if the description names a
// file system, the root tree as such a file system, for boot servers and virtual machine monitors that load a kernel themselves.
package kis

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/archive"
	"github.com/imgbuild/imgbuild/imagetypes/filesystem"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/imagetypes/xen"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/initrd"
)

// Builder builds kernel-initrd-systems. It implements [image.Builder].
type Builder struct{}

// system is what goes into the archive.
type system struct {
	kernel     initrd.Kernel
	hypervisor string // path in the tree, "" for none
	uuid       string // of the file system, "" if it has none
}

// Check refuses what can't be built.
func (Builder) Check(_ context.Context, r *image.Request) error {
	t := &r.Description.Type
	if t.LUKS != nil {
		return t.Errorf("luks", "leave it out, or build a disk (image=\"oem\")", "an encrypted system image can't be built yet")
	}
	if err := archive.CheckXZ(r.XZ); err != nil {
		return err
	}
	if t.Filesystem != "" {
		if err := filesystem.Check(spec(r, "")); err != nil {
			return t.Errorf("filesystem", "", "%v", err)
		}
	}
	if r.Tree == nil {
		return nil
	}
	if t.Filesystem != "" {
		if err := filesystem.CheckTree(r.Tree, spec(r, "")); err != nil {
			return err
		}
	}
	_, err := find(r)
	return err
}

// find looks for kernel, initial RAM disk and hypervisor.
func find(r *image.Request) (system, error) {
	t := &r.Description.Type
	need := "image type " + t.Image
	kernels := initrd.FindKernels(r.Tree)
	if len(kernels) == 0 {
		return system{}, &image.TreeError{Missing: "kernel (/boot/vmlinuz-*)", Need: need, Hint: "add the package of a kernel to the description, or a container with one to the stack"}
	}
	var s system
	if t.XenServer {
		var err error
		if s.hypervisor, kernels, err = xen.FindHost(t, r.Tree, kernels); err != nil {
			return system{}, err
		}
	}
	s.kernel = kernels[len(kernels)-1]
	if s.kernel.Initrd == "" && t.InitrdSystem != "none" {
		return system{}, &image.TreeError{Missing: "initial RAM disk of kernel " + s.kernel.Version, Need: need, Hint: "add the package dracut or initramfs-tools, or say initrd_system=\"none\""}
	}
	if t.Filesystem != "" && t.Filesystem != "squashfs" {
		s.uuid = r.Repro.UUID("kernel-initrd-system " + r.BaseName)
	}
	return s, nil
}

// spec is the file system that the description asks for.
func spec(r *image.Request, uuid string) filesystem.Spec {
	t := &r.Description.Type
	return filesystem.Spec{
		Type: t.Filesystem, Label: t.RootFSLabel, UUID: uuid, MkfsOptions: t.FSCreateOptions, Compression: filesystem.Compression(t), MountOptions: t.FSMountOptions,
	}
}

// archiveName is the name of the result. What is compressed inside is not compressed once more.
func archiveName(r *image.Request) string {
	if r.Description.Type.Compressed {
		return r.BaseName + ".tar"
	}
	return r.BaseName + ".tar.xz"
}

// Plan names what goes into the archive.
func (Builder) Plan(_ context.Context, r *image.Request) (string, error) {
	r, err := r.Filled()
	if err != nil {
		return "", err
	}
	s, err := find(r)
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("kernel-initrd-system: %s, kernel %s", archiveName(r), s.kernel.Version)
	if s.kernel.Initrd != "" {
		text += ", its initial RAM disk"
	}
	if fs := r.Description.Type.Filesystem; fs != "" {
		text += fmt.Sprintf(", the system as %s, %s", fs, progress.FormatBytes(r.Tree.Stats().Data))
	}
	return text + "\n", nil
}

// Build writes BaseName.tar.xz or, where the description wants the system compressed, BaseName.tar.
func (Builder) Build(ctx context.Context, r *image.Request) ([]image.Artifact, error) {
	r, err := r.Filled()
	if err != nil {
		return nil, err
	}
	s, err := find(r)
	if err != nil {
		return nil, err
	}
	scratch, remove, err := r.Scratch("kis")
	if err != nil {
		return nil, err
	}
	defer remove()
	content := filepath.Join(scratch, "content")
	if err := os.Mkdir(content, 0o700); err != nil {
		return nil, fmt.Errorf("building a kernel-initrd-system: %w", err)
	}
	files := map[string]string{r.BaseName + "-" + s.kernel.Version + ".kernel": s.kernel.Vmlinuz}
	if s.kernel.Initrd != "" && r.Description.Type.InitrdSystem != "none" {
		files[r.BaseName+".initrd"] = s.kernel.Initrd
	}
	if s.hypervisor != "" {
		files[r.BaseName+"-"+path.Base(s.hypervisor)] = s.hypervisor
	}
	for name, from := range files {
		if err := image.Extract(r.Tree, from, filepath.Join(content, name)); err != nil {
			return nil, fmt.Errorf("building a kernel-initrd-system: %w", err)
		}
	}
	if r.Description.Type.Filesystem != "" {
		if err := s.writeSystem(ctx, r, content, scratch); err != nil {
			return nil, fmt.Errorf("building a kernel-initrd-system: %w", err)
		}
	}
	name := archiveName(r)
	if err := writeArchive(ctx, r, content, filepath.Join(r.Dir, name)); err != nil {
		return nil, fmt.Errorf("building a kernel-initrd-system: %w", err)
	}
	return []image.Artifact{{Key: image.KeyKISArchive, File: name, UseForBundle: true}}, nil
}

// writeSystem writes the file system, its check sums and the kernel's command line.
func (s system) writeSystem(ctx context.Context, r *image.Request, content, scratch string) error {
	tree, err := image.WithoutBuildFiles(r.Tree)
	if err != nil {
		return err
	}
	env := filesystem.Env{Repro: r.Repro, Log: r.Log, Progress: r.Progress, Workdir: scratch, Cache: &filesystem.Cache{}}
	defer env.Cache.Close()
	spec := spec(r, s.uuid)
	size, err := systemSize(ctx, env, tree, spec, r.Description.Type.Size)
	if err != nil {
		return err
	}
	name := filepath.Join(content, r.BaseName)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := filesystem.Write(ctx, env, f, 0, size, tree, spec); err != nil {
		return err
	}
	sums, err := sum(ctx, f, size)
	if err != nil {
		return err
	}
	if r.Description.Type.Compressed {
		if err := compress(ctx, r, f, size, name+".xz"); err != nil {
			return err
		}
		info, err := os.Stat(name + ".xz")
		if err != nil {
			return err
		}
		sums.compressed = info.Size()
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	for suffix, text := range map[string]string{".md5": sums.text(sums.md5), ".sha256": sums.text(sums.sha256), ".append": s.commandLine(r)} {
		if err := os.WriteFile(name+suffix, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func systemSize(ctx context.Context, env filesystem.Env, tree *layers.Tree, spec filesystem.Spec, asked *description.Size) (int64, error) {
	const mebibyte = 1 << 20
	if asked != nil && !asked.Additive {
		return asked.MB * mebibyte, nil
	}
	if spec.Type != "squashfs" {
		spec.Free = filesystem.SpareSpace(tree)
		if asked != nil {
			spec.Free = asked.MB * mebibyte
		}
	}
	return filesystem.Size(ctx, env, tree, spec)
}

func compress(ctx context.Context, r *image.Request, f *os.File, size int64, name string) (err error) {
	task := r.Progress.Start("compressing the system", size, progress.Bytes)
	defer func() { task.Done(err) }()
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	return archive.XZ(ctx, out, r.XZ, func(w io.Writer) error {
		_, err := io.Copy(w, progress.Reader(io.NewSectionReader(f, 0, size), task))
		return err
	})
}

// commandLine is what the kernel is to be told.
func (s system) commandLine(r *image.Request) string {
	words := strings.Fields(r.Description.Type.KernelCmdline)
	if s.uuid == "" {
		return strings.Join(words, " ")
	}
	var front []string
	if !slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, "root=") }) {
		front = append(front, "root=UUID="+s.uuid)
	}
	if !slices.Contains(words, "ro") && !slices.Contains(words, "rw") {
		front = append(front, "rw") // no /etc/fstab says so
	}
	return strings.Join(append(front, words...), " ")
}

// writeArchive puts the files of a directory into the result, owned by root and with the build's time.
func writeArchive(ctx context.Context, r *image.Request, dir, name string) (err error) {
	tree, _, err := layers.ScanDir(ctx, dir, layers.ScanOptions{})
	if err != nil {
		return err
	}
	edit := tree.Edit(layers.TimespecOf(r.Repro.Epoch))
	for _, entry := range tree.Root().Names() {
		if err := edit.Change(entry, func(n *layers.Node) {
			n.UID, n.GID, n.Mode, n.MTime, n.Xattrs = 0, 0, layers.TypeRegular|0o644, layers.TimespecOf(r.Repro.Epoch), nil
		}); err != nil {
			return err
		}
	}
	if err := edit.Change(".", func(n *layers.Node) {
		n.UID, n.GID, n.Mode, n.MTime, n.Xattrs = 0, 0, layers.TypeDir|0o755, layers.TimespecOf(r.Repro.Epoch), nil
	}); err != nil {
		return err
	}
	tree = edit.Tree()
	task := r.Progress.Start("writing "+filepath.Base(name), tree.Stats().Data, progress.Bytes)
	defer func() { task.Done(err) }()
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	write := func(w io.Writer) error {
		// Where this machine keeps holes is not the same each time.
		return layers.WriteTar(ctx, w, tree, layers.TarOptions{Progress: task.Add})
	}
	if r.Description.Type.Compressed {
		return write(out)
	}
	return archive.XZ(ctx, out, r.XZ, write)
}
