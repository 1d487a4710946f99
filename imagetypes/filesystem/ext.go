package filesystem

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem/ext4"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/layers"
)

// mke2fsOptions are the letters that mke2fs takes (mke2fs(8)).
const mke2fsOptions = "b:cC:d:De:E:Fg:G:i:I:jJ:l:L:m:M:nN:o:O:qr:St:T:U:vVz:"

// mke2fsRefused are the letters that have no place here, and why.
func mke2fsRefused() map[byte]string {
	return map[byte]string{
		'c': "there is no device to look for bad blocks on",
		'd': "the root tree is written without it",
		'l': "there is no device with bad blocks",
		'n': "it makes no file system",
		'o': "the file system is for Linux",
		'r': "only the present revision can be filled",
		'S': "it makes no whole file system",
		't': "the file system's type is given already",
		'V': "it makes no file system",
		'z': "there is nothing to undo",
	}
}

// mke2fsConfig is the configuration that mke2fs is run with, so that the same input gives the same file system on every machine; see
// mke2fs.conf(5). The features are those that every boot loader in use can read; users add others with -O.
const mke2fsConfig = `[defaults]
	base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
	default_mntopts = acl,user_xattr
	enable_periodic_fsck = 0
	blocksize = 4096
	inode_size = 256
	inode_ratio = 16384
[fs_types]
	ext3 = {
		features = has_journal
	}
	ext4 = {
		features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
	}
	floppy = {
		inode_ratio = 8192
	}
	small = {
		inode_ratio = 8192
	}
	big = {
		inode_ratio = 32768
	}
	huge = {
		inode_ratio = 65536
	}
	news = {
		inode_ratio = 4096
	}
	largefile = {
		inode_ratio = 1048576
	}
	largefile4 = {
		inode_ratio = 4194304
	}
`

func checkExt(spec Spec) error {
	if len(spec.Label) > 16 {
		return fmt.Errorf("the label %q has %d bytes; %s file systems allow 16", spec.Label, len(spec.Label), spec.Type)
	}
	options, err := parseOptions(spec.MkfsOptions, mke2fsOptions)
	if err != nil {
		return fmt.Errorf("reading the mkfs options %q: %w", strings.Join(spec.MkfsOptions, " "), err)
	}
	for _, o := range options {
		if why, refused := mke2fsRefused()[o.letter]; refused {
			return fmt.Errorf("the mkfs option -%c can't be used: %s", o.letter, why)
		}
	}
	return nil
}

func needTools(names []string) error {
	for _, name := range names {
		if _, err := command.Find(name); err != nil {
			return err
		}
	}
	return nil
}

// extMaker makes empty ext file systems by mke2fs.
type extMaker struct {
	env     Env
	spec    Spec
	options []option
	uuid    string
	inodes  int64 // that the tree needs
}

func newExtMaker(env Env, tree *layers.Tree, spec Spec) (*extMaker, error) {
	options, err := parseOptions(spec.MkfsOptions, mke2fsOptions)
	if err != nil {
		return nil, err
	}
	uuid := env.uuid(spec)
	if own, ok := value(options, 'U'); ok && isUUID(own) {
		uuid = own
	}
	return &extMaker{env, spec, options, uuid, countInodes(tree)}, nil
}

// countInodes returns how many inodes a tree takes.
func countInodes(tree *layers.Tree) int64 {
	seen := map[*layers.Node]struct{}{}
	n := int64(0)
	// The callback returns no error, and so does Walk.
	_ = tree.Walk(func(_ string, node *layers.Node) error {
		if !node.IsDir() {
			if _, ok := seen[node]; ok {
				return nil
			}
			seen[node] = struct{}{}
		}
		n++
		return nil
	})
	return n
}

// reservedInodes are used by the file system itself, lost+found included.
const reservedInodes = 11

// mkfs makes an empty file system. It chooses the number of inodes where mke2fs would make too few and the user has not said how many.
func (m *extMaker) mkfs(ctx context.Context, f *os.File, offset, size int64) error {
	if err := m.run(ctx, f, offset, size, 0); err != nil {
		return err
	}
	for _, letter := range []byte{'i', 'N', 'T'} {
		if _, ok := value(m.options, letter); ok {
			return nil
		}
	}
	inodes, err := ext4.Inodes(f, offset)
	if err != nil {
		return err
	}
	need := m.inodes + reservedInodes
	if int64(inodes) >= need+need/20 {
		return nil
	}
	if err := makeRoom(f, offset, size); err != nil {
		return err
	}
	return m.run(ctx, f, offset, size, need+need/10+64)
}

// run runs mke2fs, with the given number of inodes if that is not 0.
func (m *extMaker) run(ctx context.Context, f *os.File, offset, size, inodes int64) error {
	config, err := memoryFile("mke2fs.conf", []byte(mke2fsConfig))
	if err != nil {
		return err
	}
	defer config.Close()
	args := []string{"-q", "-F", "-t", m.spec.Type}
	extended := []string{"hash_seed=" + m.uuid, "root_owner=0:0", "lazy_itable_init=1", "offset=" + strconv.FormatInt(offset, 10)}
	for _, o := range m.options {
		if o.letter == 'E' {
			extended = append(extended, o.value)
		}
	}
	rest := slices.DeleteFunc(slices.Clone(m.options), func(o option) bool { return strings.IndexByte("EUqFv", o.letter) >= 0 })
	args = append(args, "-U", m.uuid, "-E", strings.Join(extended, ","))
	if m.spec.Label != "" {
		args = append(args, "-L", m.spec.Label)
	}
	if inodes > 0 {
		args = append(args, "-N", strconv.FormatInt(inodes, 10))
	}
	args = append(args, arguments(rest)...)
	args = append(args, "/proc/self/fd/3", fmt.Sprintf("%dk", size/1024))
	epoch := strconv.FormatInt(m.env.Repro.Epoch.Unix(), 10)
	return command.Run(ctx, command.Cmd{
		Name: "mke2fs", Args: args, Files: []*os.File{f, config},
		Env: []string{
			"MKE2FS_CONFIG=/proc/self/fd/4", "MKE2FS_SYNC=0",
			"E2FSPROGS_FAKE_TIME=" + epoch, // e2fsprogs before 1.47.1
			repro.EpochVariable + "=" + epoch,
		},
	})
}

// memoryFile returns a file that lies in memory and goes away when closed.
func memoryFile(name string, data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.WriteAt(data, 0); err != nil {
		f.Close()
		return nil, fmt.Errorf("writing to a file in memory: %w", err)
	}
	return f, nil
}

// askedInodes is how many bytes the inodes take that the user asks for by number, 0 if there is none: without room for them mke2fs makes nothing.
func (m *extMaker) askedInodes() int64 {
	number := func(letter byte, otherwise int64) int64 {
		text, _ := value(m.options, letter)
		if n, err := strconv.ParseInt(text, 10, 32); err == nil && n > 0 {
			return n
		}
		return otherwise // mke2fs says what is wrong with it
	}
	return number('N', 0) * number('I', 256)
}

// sizeExt tries sizes on a file that exists in memory alone, until the tree just fits: only mke2fs knows how much its options cost.
func sizeExt(ctx context.Context, env Env, tree *layers.Tree, spec Spec) (int64, error) {
	m, err := newExtMaker(env, tree, spec)
	if err != nil {
		return 0, err
	}
	f, err := memoryFile("size", nil)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	stats := tree.Stats()
	size := alignUp(stats.Data + int64(stats.Entries)*(2048+256) + m.askedInodes() + spec.Free + 8<<20)
	fits := int64(0) // the least size known to be enough
	const tries = 12
	for range tries {
		if fits != 0 && size >= fits {
			break
		}
		missing, spare, err := m.try(ctx, f, size, tree, spec.Free)
		if err != nil {
			return 0, err
		}
		switch {
		case missing > 0:
			size = alignUp(size + missing)
			if fits != 0 && size >= fits {
				return fits, nil
			}
		case spare < Align:
			return size, nil
		default:
			fits = size
			size -= spare / Align * Align
		}
	}
	if fits == 0 {
		return 0, errors.New("no size was found that the tree fits into")
	}
	return fits, nil
}

// try returns how many bytes a file system of the given size is too small by, or else how many it could do without.
func (m *extMaker) try(ctx context.Context, f *os.File, size int64, tree *layers.Tree, free int64) (missing, spare int64, err error) {
	if err := f.Truncate(0); err != nil {
		return 0, 0, err
	}
	if err := f.Truncate(size); err != nil {
		return 0, 0, err
	}
	if err := m.mkfs(ctx, f, 0, size); err != nil {
		return 0, 0, err
	}
	report, err := ext4.Fits(ctx, f, 0, tree)
	if small := (*ext4.NoSpaceError)(nil); errors.As(err, &small) {
		if small.Blocks == 0 {
			return 0, 0, err
		}
		return int64(small.Blocks)*small.BlockSize + free, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	left := int64(report.FreeBlocks) * report.BlockSize
	if left < free {
		return free - left, 0, nil
	}
	return 0, left - free, nil
}

func writeExt(ctx context.Context, env Env, f *os.File, offset, size int64, tree *layers.Tree, spec Spec) error {
	m, err := newExtMaker(env, tree, spec)
	if err != nil {
		return err
	}
	if err := m.mkfs(ctx, f, offset, size); err != nil {
		return err
	}
	task := env.Progress.Start("writing "+spec.Type, tree.Stats().Data, progress.Bytes)
	report, err := ext4.Populate(ctx, f, offset, tree, ext4.Options{Sync: spec.Attributes != "", Progress: task.Add, Observe: env.Observe, Written: env.Written})
	task.Done(err)
	if err != nil {
		return err
	}
	env.report(spec.Type, report.Notes)
	if report.Quota {
		return fixQuota(ctx, env, f, offset)
	}
	return nil
}

// fixQuota makes e2fsck count what every owner uses. It exits with 1 for having changed something.
func fixQuota(ctx context.Context, env Env, f *os.File, offset int64) error {
	epoch := strconv.FormatInt(env.Repro.Epoch.Unix(), 10)
	err := command.Run(ctx, command.Cmd{
		Name: "e2fsck", Args: []string{"-fy", fmt.Sprintf("/proc/self/fd/3?offset=%d", offset)}, Files: []*os.File{f},
		Env: []string{"E2FSCK_TIME=" + epoch, "E2FSPROGS_FAKE_TIME=" + epoch},
	})
	var exit *command.ExitError
	if errors.As(err, &exit) && exit.Code == 1 {
		return nil
	}
	return err
}
