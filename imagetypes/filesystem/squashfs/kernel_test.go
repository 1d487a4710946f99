package squashfs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/internal/helperkernel"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

// TestKernelFindsNames has Linux look names up in a directory of several blocks, which it does by the directory's index, and read files of all shapes.
func TestKernelFindsNames(t *testing.T) {
	if _, err := helperkernel.Available(nil); err != nil {
		testenv.Missing(t, "%v", err)
	}
	edit := layers.NewTree().Edit(layers.Timespec{Sec: 1})
	put := func(name string, data []byte) {
		t.Helper()
		if err := edit.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const count = 20000
	for i := range count {
		put(fmt.Sprintf("many/%s %d", strings.Repeat("n", i%200), i), fmt.Appendf(nil, "%d\n", i))
	}
	large := random(1, 5<<20+77)
	clear(large[1<<20 : 3<<20])
	put("large", large)
	put("same", large)
	sparse := &layers.Node{Mode: layers.TypeRegular | 0o644, Size: 5<<30 + 5, Data: []layers.Extent{{Offset: 5 << 30, Length: 5}}, Content: layers.Bytes("ends\n")}
	if err := edit.Put("sparse", sparse); err != nil {
		t.Fatal(err)
	}
	f, report := write(t, edit.Tree(), Options{})
	script := "mkdir /tmp/root\nmount -t squashfs -o ro $disk1 /tmp/root\ncd /tmp/root\n"
	var want strings.Builder
	for i := 0; i < count; i += 997 {
		script += fmt.Sprintf("cat 'many/%s %d'\n", strings.Repeat("n", i%200), i)
		fmt.Fprintln(&want, i)
	}
	script += "ls many | wc -l\ncmp large same && echo same\ntail -c 5 sparse\nstat -c '%s %b' sparse large\ncd /\numount /tmp/root\n"
	blocks := (len(large) - 2<<20 + 511) / 512 // of 512 bytes that are no zeros
	fmt.Fprintf(&want, "%d\nsame\nends\n%d 1\n%d %d\n", count, sparse.Size, len(large), blocks)
	got, err := helperkernel.Run(t.Context(), helperkernel.Spec{
		Name: "reading a squashfs", Script: script, Disks: []helperkernel.Disk{{File: f, Size: (report.Size + 4095) / 4096 * 4096, ReadOnly: true}},
		Programs: []string{"mount", "umount", "mkdir", "cat", "ls", "wc", "cmp", "tail", "stat"}, Modules: []string{"squashfs"},
	})
	if err != nil || got != want.String() {
		t.Errorf("%v\n%q instead of\n%q", err, got, want.String())
	}
}
