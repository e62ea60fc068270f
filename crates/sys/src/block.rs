//! Loop devices and the device mapper: files as block devices, and block devices that are checked as they are read.

use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{Dir, Mode, OFlags, open};

use crate::{Called, Errno, Failed, last_errno};

/// struct loop_info64 of <linux/loop.h>.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// struct loop_config of <linux/loop.h>, as of Linux 5.8.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const LOOP_SET_FD: u64 = 0x4c00;
const LOOP_CLR_FD: u64 = 0x4c01;
const LOOP_SET_STATUS64: u64 = 0x4c04;
const LOOP_CONFIGURE: u64 = 0x4c0a;
const LOOP_CTL_GET_FREE: u64 = 0x4c82;
const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
/// Pauses double up to this one.
const LONGEST_PAUSE: Duration = Duration::from_millis(128);

/// A read-only loop device: part of a file as a block device. The kernel frees it once nobody has it open and nothing is
/// mounted from it.
#[derive(Debug)]
pub struct LoopDevice {
    device: OwnedFd,
    path: String,
}

impl LoopDevice {
    /// Makes one of `size` bytes of `file` from `offset` on. One call makes it since Linux 5.8; before, two do.
    ///
    /// Somebody else may take the device that we were told is free; its node may be made by a program that is not as fast as
    /// the kernel (udev, Android's ueventd); what somebody has read of it keeps an older kernel from changing it. None of these
    /// tells when it is over: that is tried again for as long as `patience`, and then told with the call that was in vain.
    pub fn attach(file: BorrowedFd<'_>, offset: u64, size: u64, patience: Duration) -> Result<Self, Failed> {
        let control = open("/dev/loop-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .called(|| "open(\"/dev/loop-control\")")?;
        let info = LoopInfo {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset,
            size_limit: size,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: READ_ONLY | AUTOCLEAR,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        };
        let end = Instant::now() + patience;
        // The first time at once: a device that somebody else was faster to take is the usual case.
        let mut pause = Duration::ZERO;
        loop {
            let failed = match Self::take(control.as_fd(), file, &info) {
                Ok(device) => return Ok(device),
                Err(failed) => failed,
            };
            let left = end.saturating_duration_since(Instant::now());
            match failed.errno() {
                Some(Errno::BUSY | Errno::AGAIN | Errno::NOENT) if !left.is_zero() => {
                    std::thread::sleep(pause.min(left));
                    pause = (pause * 2).clamp(Duration::from_millis(1), LONGEST_PAUSE);
                }
                Some(Errno::BUSY | Errno::AGAIN | Errno::NOENT) => {
                    return Err(failed.while_doing(&format!("no loop device within {patience:?}")));
                }
                _ => return Err(failed),
            }
        }
    }

    /// Takes the next that is free.
    fn take(control: BorrowedFd<'_>, file: BorrowedFd<'_>, info: &LoopInfo) -> Result<Self, Failed> {
        let number = control_number(control)?;
        let path = format!("/dev/loop{number}");
        let device = open(path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .called(|| format!("open({path:?})"))?;
        match configure(device.as_fd(), file, info) {
            Ok(()) => Ok(Self { device, path }),
            Err((call, errno)) => Err(Failed::call(format!("ioctl({path:?}, {call})"), errno)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl AsFd for LoopDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

fn control_number(control: BorrowedFd<'_>) -> Result<i32, Failed> {
    // SAFETY: LOOP_CTL_GET_FREE takes no argument and answers with a number.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as libc::Ioctl) };
    if number < 0 {
        return Err(Failed::call("ioctl(LOOP_CTL_GET_FREE)", last_errno()));
    }
    Ok(number)
}

fn configure(
    device: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    info: &LoopInfo,
) -> Result<(), (&'static str, Errno)> {
    let fd = file.as_raw_fd();
    let config = LoopConfig { fd: fd.cast_unsigned(), block_size: 0, info: *info, reserved: [0; 8] };
    // SAFETY: LOOP_CONFIGURE reads one loop_config, which lives on this frame; the descriptor in it is open as long as
    // `file` is borrowed, and the kernel takes a reference of its own.
    if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as libc::Ioctl, &raw const config) } == 0 {
        return Ok(());
    }
    match last_errno() {
        // Before 5.8 the driver knows no such call.
        Errno::INVAL | Errno::NOTTY | Errno::NOSYS => {}
        errno => return Err(("LOOP_CONFIGURE", errno)),
    }
    // SAFETY: LOOP_SET_FD takes a descriptor by value.
    if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_SET_FD as libc::Ioctl, fd) } == -1 {
        return Err(("LOOP_SET_FD", last_errno()));
    }
    // Part of a file of a device that is the whole file. If somebody has looked at it meanwhile, udev for one, the kernel
    // refuses that as long as it keeps what was read (`EAGAIN`).
    let info = std::ptr::from_ref(info);
    // SAFETY: LOOP_SET_STATUS64 reads one loop_info64, which is borrowed for the call.
    if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_SET_STATUS64 as libc::Ioctl, info) } == 0 {
        return Ok(());
    }
    let errno = last_errno();
    // SAFETY: LOOP_CLR_FD takes no argument.
    if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CLR_FD as libc::Ioctl) } == -1 {
        return Err(("LOOP_CLR_FD", last_errno()));
    }
    Err(("LOOP_SET_STATUS64", errno))
}

/// struct dm_ioctl of <linux/dm-ioctl.h>.
#[repr(C)]
#[derive(Clone, Copy)]
struct DmHead {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event: u32,
    padding: u32,
    device: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

/// struct dm_target_spec of <linux/dm-ioctl.h>.
#[repr(C)]
#[derive(Clone, Copy)]
struct DmTarget {
    start: u64,
    length: u64,
    status: i32,
    next: u32,
    kind: [u8; 16],
}

/// The longest line of parameters that is taken; dm-verity's has some 300 bytes.
const MOST_PARAMETERS: usize = 1024;

/// A whole request. The head says where the target begins, and the target where its parameters end.
#[repr(C)]
struct DmRequest {
    head: DmHead,
    target: DmTarget,
    parameters: [u8; MOST_PARAMETERS],
}

const HEAD_SIZE: u32 = 312;
/// A target with its parameters.
const TARGET_SIZE: u32 = 40 + 1024;
const REQUEST_SIZE: u32 = HEAD_SIZE + TARGET_SIZE;

const LISTED: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const DEV_CREATE: u64 = 3;
const DEV_REMOVE: u64 = 4;
const DEV_SUSPEND: u64 = 6;
const TABLE_LOAD: u64 = 9;
const DM_READONLY: u32 = 1;
/// The device goes once the last who has it open closes it.
const DM_DEFERRED_REMOVE: u32 = 1 << 17;

/// A device of the device mapper. It is removed when this is dropped, or, while somebody has it open, when that ends.
#[derive(Debug)]
pub struct Mapped {
    control: OwnedFd,
    name: String,
    number: u64,
    is_removed: bool,
}

impl Mapped {
    /// Makes a read-only device of `sectors` sectors of 512 bytes with one target of this kind.
    pub fn create(name: &str, kind: &str, sectors: u64, parameters: &str) -> Result<Self, Failed> {
        let path = "/dev/mapper/control";
        let control =
            open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).called(|| format!("open({path:?})"))?;
        if name.len() > 127 || kind.len() > 15 || parameters.len() >= MOST_PARAMETERS {
            return Err(Failed::refused(format!(
                "a device {name:?} of the kind {kind:?}: is too long to be asked for"
            )));
        }
        let created = request(control.as_fd(), DEV_CREATE, DmRequest::new(name, 0), "DM_DEV_CREATE")?;
        let mapped = Self { control, name: name.to_owned(), number: created.device, is_removed: false };
        let mut table = DmRequest::new(name, DM_READONLY);
        table.head.target_count = 1;
        table.target.length = sectors;
        table.target.next = TARGET_SIZE;
        table.target.kind[..kind.len()].copy_from_slice(kind.as_bytes());
        table.parameters[..parameters.len()].copy_from_slice(parameters.as_bytes());
        request(mapped.control.as_fd(), TABLE_LOAD, table, "DM_TABLE_LOAD")?;
        // Without the flag that suspends, this is the call that resumes.
        request(mapped.control.as_fd(), DEV_SUSPEND, DmRequest::new(name, DM_READONLY), "DM_DEV_SUSPEND")?;
        Ok(mapped)
    }

    /// Its number: major and minor as stat(2) tells them.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Where the kernel's own file system of devices shows it.
    pub fn path(&self) -> String {
        format!("/dev/dm-{}", rustix::fs::minor(self.number))
    }

    /// The names of all devices of the device mapper; none where there is no device mapper.
    pub fn names() -> Result<Vec<String>, Failed> {
        let call = |what: &str| format!("{what}(\"/sys/block\")");
        let all = match Dir::new(match open("/sys/block", LISTED, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(Vec::new()),
            opened => opened.called(|| call("open"))?,
        }) {
            Err(errno) => return Err(Failed::call(call("getdents64"), errno)),
            Ok(all) => all,
        };
        let mut names = Vec::new();
        for entry in all {
            let entry = entry.called(|| call("getdents64"))?;
            let device = entry.file_name().to_string_lossy();
            if !device.starts_with("dm-") {
                continue;
            }
            // One that is gone meanwhile has no name any more.
            if let Ok(name) = std::fs::read_to_string(format!("/sys/block/{device}/dm/name")) {
                names.push(name.trim_end().to_owned());
            }
        }
        Ok(names)
    }

    /// Removes one by its name, or, while somebody has it open, when that ends. One that is gone is no error.
    pub fn remove_named(name: &str) -> Result<(), Failed> {
        let path = "/dev/mapper/control";
        let control =
            open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).called(|| format!("open({path:?})"))?;
        let asked = DmRequest::new(name, DM_DEFERRED_REMOVE);
        match request(control.as_fd(), DEV_REMOVE, asked, "DM_DEV_REMOVE") {
            Err(failed) if failed.errno() == Some(Errno::NXIO) => Ok(()),
            removed => removed.map(drop),
        }
    }

    /// Lets it go when nobody has it open any more.
    pub fn remove(mut self) -> Result<(), Failed> {
        self.is_removed = true;
        self.let_go()
    }

    fn let_go(&self) -> Result<(), Failed> {
        let asked = DmRequest::new(&self.name, DM_DEFERRED_REMOVE);
        request(self.control.as_fd(), DEV_REMOVE, asked, "DM_DEV_REMOVE").map(|_| ())
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if !self.is_removed {
            // On the way out of another failure, which is the one that is told.
            self.let_go().unwrap_or_default();
        }
    }
}

impl DmRequest {
    /// A request for a device; the name was found to be short enough.
    fn new(name: &str, flags: u32) -> Self {
        let mut head = DmHead {
            version: [4, 0, 0],
            data_size: REQUEST_SIZE,
            data_start: HEAD_SIZE,
            target_count: 0,
            open_count: 0,
            flags,
            event: 0,
            padding: 0,
            device: 0,
            name: [0; 128],
            uuid: [0; 129],
            data: [0; 7],
        };
        let count = name.len().min(127);
        head.name[..count].copy_from_slice(&name.as_bytes()[..count]);
        let target = DmTarget { start: 0, length: 0, status: 0, next: 0, kind: [0; 16] };
        Self { head, target, parameters: [0; MOST_PARAMETERS] }
    }
}

/// Asks the device mapper; what it answers in the head.
fn request(control: BorrowedFd<'_>, number: u64, mut asked: DmRequest, call: &str) -> Result<DmHead, Failed> {
    // _IOWR(0xfd, number, struct dm_ioctl)
    let code = 3 << 30 | (size_of::<DmHead>() as u64) << 16 | 0xfd << 8 | number;
    // SAFETY: the kernel reads and writes `data_size` bytes from the head on, which is the size of `asked`, alive on this
    // frame; `repr(C)` without padding between the three parts puts the target where `data_start` says.
    if unsafe { libc::ioctl(control.as_raw_fd(), code as libc::Ioctl, &raw mut asked) } == -1 {
        return Err(Failed::call(format!("ioctl({call})"), last_errno()));
    }
    Ok(asked.head)
}

const _: () =
    assert!(size_of::<DmHead>() == 312 && size_of::<LoopInfo>() == 232 && size_of::<LoopConfig>() == 304);
const _: () = assert!(size_of::<DmRequest>() == REQUEST_SIZE as usize && MOST_PARAMETERS == 1024);
