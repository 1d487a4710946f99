package main

// Several image types of one description, in one pass and one by one.

// describeThree turns the description of prepare into one with three types and a script; KIWI's settings compress as imgbuild does.
const describeThree = `
sed -i 's,<type image="tbz"/>,<type image="docker"><containerconfig name="bench"/></type><type image="oci"><containerconfig name="bench"/></type><type image="ext4"/>,' "$B/description/config.xml"
printf '#!/bin/bash\nset -e\ntest -f /.kconfig && . /.kconfig\necho "$kiwi_iname" > /etc/issue.net\n' > "$B/description/config.sh"
mkdir -p "$B/home/.config/kiwi"
printf 'container:\n  - compress: none\n' > "$B/home/.config/kiwi/config.yml"
`

// threeTypes builds three image types from packages. The package cache is full for all contenders.
func threeTypes() job {
	build := `"$IMGBUILD" build --description "$B/description" --package-cache "$B/package-cache" --target-dir `
	each := func(run string) string { return "for t in docker oci ext4; do\n" + run + "\ndone" }
	clean := `rm -rf "$B"/out* "$B/kiwi-root"`
	kiwi := `unset TMPDIR; HOME="$B/home" kiwi-ng --temp-dir "$B" `
	return job{name: "three image types (docker, oci, ext4) of a minimal Debian, from packages",
		prepare: makeMirror + "LIST=\n" + writeDescription + describeThree + build + `"$B/out" --type docker` + "\n" + clean,
		contenders: []contender{
			{name: "imgbuild build --type docker,oci,ext4", run: build + `"$B/out" --type docker,oci,ext4`, clean: clean},
			{name: "imgbuild build, three times", run: each(build + `"$B/out-$t" --type $t`), clean: clean},
			{name: "kiwi-ng system prepare, three times system create", once: true, clean: clean,
				run: kiwi + `system prepare --description "$B/description" --root "$B/kiwi-root" > "$B/kiwi.log"
` + each(kiwi+`--type $t system create --root "$B/kiwi-root" --target-dir "$B/out-$t" > "$B/kiwi.log"`)},
			{name: "kiwi-ng system build, three times", once: true, clean: clean, run: each(kiwi + `--type $t system build --description "$B/description" --target-dir "$B/out-$t" > "$B/kiwi.log"`)},
		},
		clean: `rm -rf "$B/description" "$B/package-cache"`}
}

// stackedTypes builds five image types from a container with a layer of about 520 MB, which is compressed as imgbuild does, or as others do.
func stackedTypes(compression, stashed string) job {
	const types = "docker oci squashfs ext4 tar.zst"
	build := `"$IMGBUILD" stackbuild --stash bench --target-dir `
	clean := `rm -rf "$B"/out*`
	return job{name: "image types together: five of one container, its layer " + compression,
		prepare: makeLive + byDefault + describeTypes + `sed -i 's,<type image="tbz"/>,<type image="tar.zst"/>,' "$B/live/image/config.xml"
` + stashed + `rm -rf "$B/live"`,
		contenders: []contender{
			{name: "imgbuild stackbuild --type docker,oci,...", run: build + `"$B/out" --type "$(echo ` + types + ` | tr ' ' ,)"`, clean: clean},
			{name: "imgbuild stackbuild, five times", run: `for t in ` + types + `; do ` + build + `"$B/out-$t" --type $t; done`, clean: clean},
		},
		clean: `rm -rf "$B/store" "$B/foreign"`}
}

// typesTogether are the jobs.
func typesTogether() []job {
	return []job{
		threeTypes(),
		stackedTypes("by zstd in frames", `"$IMGBUILD" stash --root "$B/live" --container-name bench
`),
		stackedTypes("one stream of gzip", `"$IMGBUILD" stash --root "$B/live" --container-name plain --compression none
skopeo copy -q --dest-compress --dest-compress-format gzip "oci:$B/store:plain:latest" "oci:$B/foreign:bench:latest"
rm -rf "$B/store"; "$IMGBUILD" pull "oci:$B/foreign:bench:latest"
`),
	}
}
