use purlin_vmm_core::bundle::*; use purlin_vmm_core::memory::*; use std::time::Instant;
fn rss()->String{std::fs::read_to_string("/proc/self/status").unwrap().lines().filter(|l|l.starts_with("Rss")||l.starts_with("VmRSS")||l.starts_with("VmHWM")).collect::<Vec<_>>().join(" ")}
#[test] fn a(){ for thp in [true,false,true,false] {
 let l=MemoryLayout::new(256<<20).unwrap();
 let ram=alloc::allocate(&l,&RamConfig{transparent_huge_pages:thp,..Default::default()}).unwrap();
 println!("{}",rss()); let t=Instant::now(); let b=Bundle::open(&BundleSource::Path(std::env::var_os("PURLIN_FW").unwrap().into())).unwrap();
 println!("open {:?}",t.elapsed()); let t=Instant::now(); b.copy_to(&ram).unwrap(); println!("thp {thp} copy {:?}",t.elapsed()); println!("{}",rss()); let t=Instant::now(); drop(b); println!("close {:?}",t.elapsed()); drop(ram); println!("{}",rss());
}}
